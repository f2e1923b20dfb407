"""The forge and the ticket system for GitHub."""
