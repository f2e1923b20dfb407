-- One row for each environment that a run holds, through every wait of that run.
CREATE SEQUENCE environment_lock_tokens;

CREATE TABLE environment_locks (
    environment text PRIMARY KEY,
    owner text NOT NULL,
    run_id text NOT NULL,
    reason text NOT NULL,
    -- Grows with every new holder: whoever shows a smaller one has lost the environment since.
    token bigint NOT NULL DEFAULT nextval('environment_lock_tokens'),
    acquired_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    heartbeat_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

ALTER SEQUENCE environment_lock_tokens OWNED BY environment_locks.token;
