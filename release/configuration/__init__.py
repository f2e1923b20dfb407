"""What can be configured, and what is wrong with a value."""
