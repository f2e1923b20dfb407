"""Faults at chosen moments of a deployment, and what must be true afterwards."""
