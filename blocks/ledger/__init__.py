"""The ledger's PostgreSQL: events, locks, and the events it has not taken yet."""
