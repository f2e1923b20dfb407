"""What PostgreSQL's catalogue says about a database: tables, locks, statements."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from psycopg import OperationalError, errors, sql
from psycopg.pq import ExecStatus

from blocks.postgres.connection import Connection
from blocks.postgres.scratch import server_words
from release.migration.rehearsal.compatibility import (
    Column,
    Constraint,
    RecordedStatement,
    RecordedStatements,
    Schema,
    preparable,
    select_statements,
)
from release.migration.rehearsal.outcome import TableSize
from release.migration.rehearsal.trace import TableState

_NOT_VISIBLE = "<insufficient privilege>"  # in place of a text, where the role may not read it
_OWN = "schema_migrations"  # of the pipeline, not of the release
# As people write it: without the schema that everybody means.
_NAME = "CASE n.nspname WHEN 'public' THEN c.relname::text ELSE n.nspname || '.' || c.relname END"
_USERS = "n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'"

_TABLES = f"""
    SELECT c.oid, {_NAME} AS name, pg_relation_filenode(c.oid) AS file,
           pg_stat_get_xact_numscans(c.oid) AS scans, coalesce(l.modes, '{{}}') AS modes
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN (SELECT relation, array_agg(DISTINCT mode) AS modes FROM pg_locks
               WHERE locktype = 'relation' AND granted AND pid = pg_backend_pid()
               GROUP BY relation) l ON l.relation = c.oid
    WHERE c.relkind IN ('r', 'p', 'm') AND c.relpersistence <> 't' AND {_USERS}"""
_COLUMNS = f"""
    SELECT {_NAME} AS "table", a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type,
           a.attnotnull AS not_null,
           a.atthasdef OR a.attidentity <> '' OR a.attgenerated <> '' AS filled
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't' AND {_USERS}
    ORDER BY 1, a.attnum"""
_CONSTRAINTS = f"""
    SELECT {_NAME} AS "table", k.conname AS name, pg_get_constraintdef(k.oid) AS definition,
           ARRAY(SELECT attname::text FROM pg_attribute
                 WHERE attrelid = c.oid AND attnum = ANY (k.conkey)) AS columns
    FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE k.contype IN ('c', 'f', 'p', 'u', 'x') AND k.conparentid = 0 AND {_USERS}
    UNION ALL
    SELECT {_NAME}, i.relname,
           'UNIQUE ' || substring(pg_get_indexdef(i.oid) FROM ' USING .*$'),
           ARRAY(SELECT attname::text FROM pg_attribute
                 WHERE attrelid = c.oid AND attnum = ANY (x.indkey::smallint[]))
    FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class c ON c.oid = x.indrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE x.indisunique AND NOT c.relispartition AND {_USERS}
      AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = i.oid)
    ORDER BY 1, 2"""
_NAMES = f"""
    SELECT c.relname::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND {_USERS}
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
    UNION
    SELECT p.proname::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE {_USERS} AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND deptype = 'e')
    """
_SIZES = f"""
    SELECT {_NAME} AS name, pg_total_relation_size(c.oid) AS size,
           CASE WHEN c.reltuples >= 0 THEN c.reltuples::bigint END AS rows
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'm') AND {_USERS} AND {_NAME} = ANY (%s)
    ORDER BY 1"""
_EXTENSION = """
    SELECT n.nspname AS schema FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
    WHERE e.extname = 'pg_stat_statements'"""
_SINCE = """
    SELECT date_trunc('second', clock_timestamp() - stats_reset) AS since, dealloc AS evictions
    FROM {schema}.pg_stat_statements_info"""
# What a role's sessions begin with: its setting in this database, its own, the database's.
_RECORDED = """
    SELECT s.query, sum(s.calls)::bigint AS calls, count(*)::int AS entries,
           replace(coalesce(p.path, ''), '"$user"', quote_ident(r.rolname)) AS path
    FROM {schema}.pg_stat_statements s
    JOIN pg_database d ON d.oid = s.dbid AND d.datname = current_database()
    JOIN pg_roles r ON r.oid = s.userid
    LEFT JOIN LATERAL (
        SELECT substring(option FROM '^search_path=(.*)$') AS path
        FROM pg_db_role_setting g, unnest(g.setconfig) AS option
        WHERE g.setdatabase IN (0, d.oid) AND g.setrole IN (0, r.oid)
          AND starts_with(option, 'search_path=')
        ORDER BY g.setrole <> 0 DESC, g.setdatabase <> 0 DESC LIMIT 1) p ON true
    WHERE s.query IS NOT NULL
    GROUP BY 1, 4"""


def look_at_tables(connection: Connection) -> dict[int, TableState]:
    """The user's tables by oid: where they are stored, and what this session did to them."""
    return {
        row["oid"]: TableState(row["name"], row["file"], row["scans"], tuple(row["modes"]))
        for row in connection.execute(_TABLES.encode())
    }


def read_schema(connection: Connection) -> Schema:
    """The columns and constraints of the user's tables."""
    columns = [Column(**row) for row in connection.execute(_COLUMNS.encode())]
    constraints = [
        Constraint(**row | {"columns": frozenset(row["columns"])})
        for row in connection.execute(_CONSTRAINTS.encode())
    ]
    return Schema(tuple(columns), tuple(constraints))


def table_sizes(connection: Connection, tables: Iterable[str]) -> tuple[TableSize, ...]:
    """How large some tables are, by the names that the other functions here give."""
    rows = connection.execute(_SIZES.encode(), (sorted(set(tables)),))
    return tuple(TableSize(row["name"], row["size"], row["rows"]) for row in rows)


def recorded_statements(connection: Connection, limit: int) -> RecordedStatements:
    """What this database's clients sent, as its pg_stat_statements kept it."""
    extension = connection.execute(_EXTENSION).fetchone()
    if extension is None:
        return RecordedStatements(reason="pg_stat_statements is not installed on the target")
    schema = sql.Identifier(extension["schema"])
    try:
        query = sql.SQL(_RECORDED).format(schema=schema)
        rows = connection.execute(query).fetchall()
    except errors.ObjectNotInPrerequisiteState:
        why = "pg_stat_statements is not in the target's shared_preload_libraries"
        return RecordedStatements(reason=why)
    except errors.InsufficientPrivilege:
        return RecordedStatements(reason="the role may not read pg_stat_statements")
    found = _selected(connection, rows, limit)
    try:
        since = connection.execute(sql.SQL(_SINCE).format(schema=schema)).fetchone()
    except errors.UndefinedTable:  # an extension older than 1.9 does not say
        return found
    return replace(found, **since) if since else found


def unprepared(
    connection: Connection, statements: Iterable[RecordedStatement]
) -> dict[RecordedStatement, str]:
    """Those statements that cannot be parsed here, with the reason. None of them is executed."""
    failed: dict[RecordedStatement, str] = {}
    path = ""
    for statement in sorted(statements, key=lambda statement: statement.search_path):
        if statement.search_path != path:
            path = statement.search_path
            connection.execute("SELECT set_config('search_path', %s, false)", (path,))
        # Without a name: the next one takes its place, so there is nothing to deallocate.
        result = connection.pgconn.prepare(b"", preparable(statement.text).encode())
        if result.status != ExecStatus.COMMAND_OK:
            error = errors.error_from_result(result, "utf-8")
            if isinstance(error, OperationalError):  # a limit, which says nothing about it
                raise error
            failed[statement] = server_words(error)
    return failed


def _selected(connection: Connection, rows: list[dict[str, Any]], limit: int) -> RecordedStatements:
    readable = [row for row in rows if row["query"] != _NOT_VISIBLE]
    hidden = sum(row["entries"] for row in rows if row["query"] == _NOT_VISIBLE)
    names = {row["name"] for row in connection.execute(_NAMES.encode())} - {_OWN}
    statements, left_out = select_statements(map(_statement, readable), names, limit)
    reason = "" if statements else "pg_stat_statements holds none that names a table of the target"
    return RecordedStatements(statements, hidden, left_out, reason)


def _statement(row: Mapping[str, Any]) -> RecordedStatement:
    return RecordedStatement(row["query"], row["calls"], row["path"])
