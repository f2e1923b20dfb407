"""One adapter for each outside system, with its connection and its secrets."""
