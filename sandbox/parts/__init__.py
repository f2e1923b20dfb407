"""What a sandbox consists of: engine, registry, databases, Prefect, environments."""
