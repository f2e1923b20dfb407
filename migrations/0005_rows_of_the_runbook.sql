-- The log without the row that 0003 wrote into every ledger: it is that of one team's runbook. The
-- rows of the runbook that is configured are written by `ignition setup`.
CREATE OR REPLACE VIEW deployment_log AS
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
WHERE
    kind = 'deployment_ended'
    AND payload ->> 'ending' NOT IN ('Planned', 'NothingToDo', 'Refused')
    AND run_id <> 'initial';
