"""The router for HAProxy."""
