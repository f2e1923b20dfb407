-- The runbook's Deployment Log. What began nothing is no deployment.
CREATE VIEW deployment_log AS
SELECT
    at AS date,
    payload ->> 'version' AS version,
    payload ->> 'deployer' AS deployer,
    payload ->> 'notes' AS notes,
    environment,
    payload ->> 'ending' AS ending,
    split_part(coalesce(payload ->> 'image', ''), '@', 2) AS digest,
    run_id,
    coalesce(payload ->> 'revision', '') AS revision,
    coalesce(payload ->> 'image', '') AS image,
    seq
FROM ledger_events
WHERE kind = 'deployment_ended' AND payload ->> 'ending' NOT IN ('Planned', 'NothingToDo', 'Refused');

-- The row with which the runbook's own table begins.
INSERT INTO ledger_events (at, environment, run_id, kind, payload) VALUES (
    '2026-01-08T00:00:00Z',
    'production',
    'initial',
    'deployment_ended',
    '{"deployer":"Initial","ending":"Deployed","notes":"Migration to Postgres","version":"v1.0.0"}'
);
