"""Measurements as values: samples, counters, and what they grew by."""
