"""The tests of rules run in a few seconds in all: they are what a change is tried on first."""

from hypothesis import settings

settings.register_profile("rules", max_examples=50, deadline=None)
settings.load_profile("rules")
