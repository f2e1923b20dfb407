"""The on-call service for PagerDuty."""
