-- A one-time code counts once, for the answer that came first: the 30 s it belongs to, by approver.
CREATE TABLE used_codes (
    approver text NOT NULL,
    step bigint NOT NULL,
    run_id text NOT NULL,
    gate text NOT NULL,
    used_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (approver, step)
);
