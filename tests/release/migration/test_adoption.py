"""Which schemas of other tools are carried on, which have to be adopted, and what is said."""

import hashlib

import pytest

from release.errors import MigrationRefused
from release.migration.adoption import (
    OUR_TABLE,
    RAILS,
    TOOLS,
    VERSIONS_ALONE,
    History,
    Tool,
    has_own_history,
    plan_adoption,
    propose_through,
    recognise,
    refuse_foreign_schema,
)
from release.migration.files import AppliedMigration, MigrationFile


def files(*versions: str, name: str = "step") -> list[MigrationFile]:
    return [
        MigrationFile(version, name, "SELECT 1;", hashlib.sha256(version.encode()).hexdigest())
        for version in versions
    ]


def tool(name: str) -> Tool:
    return next(one for one in TOOLS if one.name == name)


def history(name: str, *applied: str, unfinished: str = "") -> History:
    known = RAILS if name == "Rails" else tool(name)
    return History(known, f"{known.schema or 'public'}.{known.table}", applied, unfinished)


def versions_alone(*applied: str) -> History:
    return history(VERSIONS_ALONE.name, *applied)


def refusal(found: list[History], ours: list[MigrationFile]) -> str:
    with pytest.raises(MigrationRefused) as caught:
        refuse_foreign_schema(found, ours, [], "production")
    return str(caught.value)


FOUR = files("0001", "0002", "0003", "0004")


# --- recognising ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "columns", "name"),
    [
        ("public.schema_migrations", "version dirty", "golang-migrate"),
        ("public.schema_migrations", "version inserted_at", "Ecto"),
        ("public.schema_migrations", "version", VERSIONS_ALONE.name),
        ("app.flyway_schema_history", "installed_rank version type script success", "Flyway"),
        ("public.alembic_version", "version_num", "Alembic"),
        ("public.django_migrations", "id app name applied", "Django"),
        ("public.databasechangelog", "id author filename orderexecuted", "Liquibase"),
        (
            "public._prisma_migrations",
            "id checksum finished_at migration_name rolled_back_at started_at",
            "Prisma",
        ),
        ("public.pgmigrations", "id name run_on", "node-pg-migrate"),
        ("public._yoyo_migration", "migration_hash migration_id applied_at_utc", "yoyo"),
        ("sqitch.changes", "change_id script_hash change project planner_name", "Sqitch"),
        ("atlas_schema_revisions.atlas_schema_revisions", "version applied total", "Atlas"),
        ("public.atlas_schema_revisions", "version applied total error", "Atlas"),
        ("public.goose_db_version", "id version_id is_applied tstamp", "goose"),
    ],
)
def test_a_tool_is_recognised_by_its_table_and_columns(table, columns, name):
    found = recognise({table: frozenset(columns.split())})

    assert [(tool.name, where) for tool, where in found] == [(name, table)]


def test_rails_is_told_from_dbmate_by_the_table_beside_its_versions():
    versions = {"public.schema_migrations": frozenset({"version"})}
    beside = {"public.ar_internal_metadata": frozenset({"key", "value"})}
    elsewhere = {"blog.ar_internal_metadata": frozenset({"key", "value"})}

    assert recognise(versions | beside) == ((RAILS, OUR_TABLE),)
    assert recognise(versions | elsewhere) == ((VERSIONS_ALONE, OUR_TABLE),)


@pytest.mark.parametrize(
    ("table", "columns"),
    [
        ("public.changes", "change_id change committed_at"),  # the application's, not Sqitch's
        ("public.alembic_version", "number"),
        ("public.schema_migrations", "filename"),
        ("public.users", "id version"),
    ],
)
def test_a_table_of_the_application_is_no_history(table, columns):
    assert recognise({table: frozenset(columns.split())}) == ()


# --- what is let through --------------------------------------------------------------------------


def test_a_database_without_another_tool_is_planned_as_ever():
    refuse_foreign_schema([], FOUR, [], "production")


def test_a_service_without_files_may_keep_its_own_tool():
    refuse_foreign_schema([history("Django", "auth.0001_initial")], [], [], "production")


def test_an_empty_history_beside_ours_made_nothing():
    refuse_foreign_schema([history("Alembic")], FOUR, [], "production")


@pytest.mark.parametrize(
    "applied",
    [
        ("0001", "0002"),
        ("0001", "0002", "0003", "0004"),
        ("0000", "0001"),  # 0000 has no file any more
    ],
)
def test_versions_alone_with_the_numbers_of_our_files_are_carried_on(applied):
    refuse_foreign_schema([versions_alone(*applied)], FOUR, [], "production")


def test_files_that_are_all_newer_than_the_versions_of_rails_carry_on():
    found = history("Rails", "20230101120000", "20240101120000")

    refuse_foreign_schema([found], files("20240101120001"), [], "production")


@pytest.mark.parametrize(
    "row",
    [
        AppliedMigration("0001", "step", checksum="9f3c"),
        AppliedMigration("0001", "step", status="adopted"),
    ],
)
def test_once_a_file_of_ours_is_recorded_the_other_tool_is_history(row):
    assert has_own_history([AppliedMigration("0000"), row])

    refuse_foreign_schema([history("Alembic", "4573b7553aa3")], FOUR, [row], "production")


def test_rows_that_another_tool_left_are_no_history_of_our_own():
    assert not has_own_history([AppliedMigration("0001"), AppliedMigration("20240101120000")])


# --- what has to be adopted -----------------------------------------------------------------------


def test_a_refusal_says_which_tool_where_it_stands_and_what_to_type():
    said = refusal([history("Flyway", "1", "2", "3")], FOUR)

    assert said == (
        "Flyway made this schema: public.flyway_schema_history stands at 3 (3 rows); "
        "0001_step.sql would be applied on top of it\n"
        "hint: ignition adopt production --through 0003 --as NAME --reason …"
    )


def test_where_the_file_is_not_certain_the_refusal_asks_for_it():
    said = refusal([history("Alembic", "4573b7553aa3")], FOUR)

    assert "public.alembic_version stands at 4573b7553aa3 (1 row)" in said
    assert said.endswith(
        "hint: ignition adopt production --through VERSION --as NAME --reason …, "
        "VERSION: the last file that the schema has"
    )


def test_versions_alone_in_another_schema_than_ours_cannot_be_carried_on():
    found = History(VERSIONS_ALONE, "app.schema_migrations", ("0001", "0002"))

    assert "--through 0002" in refusal([found], FOUR)


def test_files_older_than_the_versions_of_rails_and_not_among_them_have_to_be_adopted():
    said = refusal([history("Rails", "20240101120000")], files("20230101120000"))

    assert "20230101120000_step.sql would be applied on top of it" in said
    assert "ignition adopt production --through VERSION" in said


def test_two_widths_in_one_table_are_refused_with_the_number_to_begin_with():
    """Adoption would not help: as text, 0001 sorts before every number that Rails wrote."""
    said = refusal([history("Rails", "20240101120000")], FOUR)

    assert "0001_step.sql has a number of another width" in said
    assert said.endswith("number the files as the table does, from 20240101120001 on")


def test_an_empty_table_of_golang_migrate_has_to_make_room():
    said = refusal([history("golang-migrate")], FOUR)

    assert said == (
        "public.schema_migrations is golang-migrate's and empty; the record of our files needs a "
        "table of that name\nhint: ALTER TABLE public.schema_migrations RENAME TO "
        "schema_migrations_golang_migrate;"
    )


@pytest.mark.parametrize(
    ("name", "what", "hint"),
    [
        ("golang-migrate", "version 3 is dirty", "then: migrate force NUMBER"),
        ("Flyway", "3 failed", "flyway repair"),
        ("Liquibase", "its lock is held by worker-1", "liquibase release-locks"),
        ("Prisma", "20240101_x was begun and has not ended", "prisma migrate resolve --applied"),
        ("yoyo", "its lock is held by process 812", "yoyo break-lock"),
        ("Atlas", "20240101 stopped at statement 1 of 3", "atlas migrate apply"),
    ],
)
def test_what_another_tool_has_not_finished_is_finished_there_first(name, what, hint):
    found = history(name, "1", "2", "3", unfinished=what)

    said = refusal([found], FOUR)

    assert said.startswith(f"{name} has not finished with this schema: {what} ({found.table})")
    assert hint in said.partition("\nhint: ")[2]
    with pytest.raises(MigrationRefused, match="has not finished"):
        plan_adoption(FOUR, [], [found], "0003")


# --- the file that a history stands for -----------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "applied", "through"),
    [
        ("golang-migrate", ("3",), "0003"),
        ("golang-migrate", ("9",), ""),  # newer than every file
        ("golang-migrate", ("0",), ""),
        ("Flyway", ("1", "2"), "0002"),
        ("Flyway", ("001", "002"), "0002"),
        ("Flyway", ("1", "1.1", "2"), ""),  # two files of Flyway's for one number
        ("Flyway", ("1.1",), ""),
        ("Flyway", ("2",), ""),  # a baseline: 0001 is not among them
        ("Flyway", (), ""),
        ("goose", ("1", "2", "3", "4"), "0004"),
        ("node-pg-migrate", ("0001_t1", "0002_t2"), "0002"),
        ("yoyo", ("0001.make-t1", "0002.make-t2"), "0002"),
        ("yoyo", ("0001_01_x2Y-a", "0001_02_x2Z-b"), ""),  # one number twice
        ("Alembic", ("0004",), ""),  # an id may look like a number
        ("Django", ("auth.0001_initial",), ""),
        ("Liquibase", ("1", "2"), ""),  # a changeset is no file
    ],
)
def test_a_history_stands_for_a_file_only_where_that_is_certain(name, applied, through):
    assert propose_through(history(name, *applied), FOUR) == through


def test_prismas_folders_stand_for_files_with_their_timestamps():
    ours = files("20230101120000", "20240101120000", "20250101120000")
    found = history("Prisma", "20230101120000_init", "20240101120000_orders")

    assert propose_through(found, ours) == "20240101120000"


# --- what an adoption writes ----------------------------------------------------------------------


def test_adopting_records_the_files_up_to_the_one_named_and_leaves_the_rest_pending():
    adoption = plan_adoption(FOUR, [], [history("Flyway", "1", "2")], "0002")

    assert [file.version for file in adoption.record] == ["0001", "0002"]
    assert [file.version for file in adoption.later] == ["0003", "0004"]
    assert adoption.renames == ()
    assert adoption.lines() == [
        "Flyway made this schema: public.flyway_schema_history stands at 2 (2 rows)",
        "to be recorded, without running them: 2 files, 0001_step.sql to 0002_step.sql",
        "still to be applied by a deployment: 2 files, 0003_step.sql to 0004_step.sql",
        "Flyway must no longer run when the release starts: two tools would change one schema",
    ]
    assert adoption.note("Ada", "was Flyway") == "adopted by Ada from Flyway at 2: was Flyway"


def test_a_schema_that_nobody_recorded_can_be_adopted_too():
    adoption = plan_adoption(FOUR, [], [], "0004")

    assert len(adoption.record) == 4
    assert adoption.lines()[0] == "no other tool is known here"
    assert adoption.note("Ada", "made by hand") == (
        "adopted by Ada from a schema without a history: made by hand"
    )


def test_the_table_of_golang_migrate_makes_room_and_its_number_is_no_record_of_ours():
    found = history("golang-migrate", "2")

    adoption = plan_adoption(FOUR, [AppliedMigration("2")], [found], "0002")

    assert [file.version for file in adoption.record] == ["0001", "0002"]
    assert adoption.renames == ((OUR_TABLE, "schema_migrations_golang_migrate"),)
    assert (
        "public.schema_migrations is renamed to schema_migrations_golang_migrate"
        in adoption.lines()
    )


def test_adopting_twice_writes_nothing():
    rows = [
        AppliedMigration(f.version, f.name, status="adopted", checksum=f.checksum) for f in FOUR[:2]
    ]

    adoption = plan_adoption(FOUR, rows, [history("Flyway", "1", "2")], "0002")

    assert adoption.record == ()
    assert [file.version for file in adoption.standing] == ["0001", "0002"]


def test_a_record_without_a_checksum_gets_one():
    adoption = plan_adoption(FOUR, [AppliedMigration("0001")], [versions_alone("0001")], "0002")

    assert [file.version for file in adoption.record] == ["0001", "0002"]


def test_a_file_that_was_applied_with_another_text_cannot_be_adopted():
    rows = [AppliedMigration("0001", "step", checksum="9f3c" * 16)]

    with pytest.raises(MigrationRefused, match=r"0001_step\.sql is applied with another text"):
        plan_adoption(FOUR, rows, [], "0002")


@pytest.mark.parametrize("status", ["running", "failed"])
def test_a_file_that_is_being_applied_cannot_be_adopted(status):
    rows = [AppliedMigration("0002", "step", status=status, checksum=FOUR[1].checksum)]

    with pytest.raises(MigrationRefused, match=f"is recorded as {status}; nothing was adopted"):
        plan_adoption(FOUR, rows, [], "0002")


@pytest.mark.parametrize("through", ["0005", "2", "", "0002_step.sql"])
def test_a_number_that_no_file_has_is_refused_with_the_newest_one(through):
    with pytest.raises(MigrationRefused, match=r"the newest is 0004_step\.sql"):
        plan_adoption(FOUR, [], [], through)


def test_adopting_without_any_file_says_so():
    with pytest.raises(MigrationRefused, match="there is no file at all"):
        plan_adoption([], [], [], "0001")


def test_adopting_files_of_another_width_beside_the_versions_of_rails_is_refused():
    with pytest.raises(MigrationRefused, match="from 20240101120001 on"):
        plan_adoption(FOUR, [], [history("Rails", "20240101120000")], "0004")
