"""Migration files: what is pending, what is refused, and when a file runs."""
