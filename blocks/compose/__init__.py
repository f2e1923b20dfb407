"""The orchestrator for a Docker Compose project."""
