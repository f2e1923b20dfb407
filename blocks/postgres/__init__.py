"""The environment's PostgreSQL: migrations applied, rehearsed and adopted."""
