"""Every decision, as a function of values: no Prefect, no I/O, no clock."""
