"""Good and bad releases deployed under load, and how each must end."""
