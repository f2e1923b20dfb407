"""How much of the traffic is scored."""

SHARE = 0.06  # fraction of all requests
LOADED_AFTER = 0.0  # seconds from the start until the words for robots are loaded
