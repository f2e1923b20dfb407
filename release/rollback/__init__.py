"""Where a rollback goes, who carries it out, and how it gets there."""
