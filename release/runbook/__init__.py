"""RUNBOOK.md as data, and whether the pipeline can carry it out."""
