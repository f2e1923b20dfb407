-- What happened in which environment. Rows are added, never changed; each carries the hash of the
-- one before, so that a change made around the triggers shows (release/ledger.py verifies it).
CREATE TABLE ledger_events (
    seq bigint PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    environment text NOT NULL,
    run_id text NOT NULL,
    kind text NOT NULL,
    step text NOT NULL DEFAULT '',
    key text NOT NULL DEFAULT '',
    payload json NOT NULL DEFAULT '{}',
    previous_hash text NOT NULL,
    hash text NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- The fields are hashed one a line, so none of them may hold a line end.
    CHECK (concat(environment, run_id, kind, step, key, payload) !~ E'\n'),
    UNIQUE (run_id, kind, step, key)
);

CREATE INDEX ledger_events_by_environment ON ledger_events (environment, kind, seq);

CREATE FUNCTION ledger_event_hash(event ledger_events) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT encode(
        sha256(
            convert_to(
                concat_ws(
                    E'\n',
                    event.previous_hash,
                    event.seq::text,
                    to_char(event.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
                    event.environment,
                    event.run_id,
                    event.kind,
                    event.step,
                    event.key,
                    event.payload::text
                ),
                'UTF8'
            )
        ),
        'hex'
    )
$$;

-- The writers take turns, so numbers have no gaps and the chain has no branches.
CREATE FUNCTION ledger_chain() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('ledger_events', 0));
    SELECT last.seq + 1, last.hash INTO NEW.seq, NEW.previous_hash
    FROM ledger_events last ORDER BY last.seq DESC LIMIT 1;
    IF NOT FOUND THEN
        NEW.seq := 1;
        NEW.previous_hash := '';
    END IF;
    NEW.hash := ledger_event_hash(NEW);
    RETURN NEW;
END
$$;

CREATE TRIGGER ledger_chain BEFORE INSERT ON ledger_events
FOR EACH ROW EXECUTE FUNCTION ledger_chain();

CREATE FUNCTION ledger_refuse_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the ledger is append-only: % refused', TG_OP
    USING ERRCODE = 'restrict_violation', HINT = 'record a new event that corrects the old one';
END
$$;

CREATE TRIGGER ledger_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_events
FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse_change();
