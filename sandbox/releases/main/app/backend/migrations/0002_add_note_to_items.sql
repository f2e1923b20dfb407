-- Nullable and without a default: the release before this one reads and writes on as it did.
ALTER TABLE items ADD COLUMN note text;
