"""The `ignition` command: what a person types and reads. It decides nothing."""
