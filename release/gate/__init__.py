"""The checklist: evidence, signatures, and whether they hold."""
