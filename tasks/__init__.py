"""One verb each: announce it, call a block, return a typed result."""
