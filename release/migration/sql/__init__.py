"""SQL text, its statements as trees, and what PostgreSQL does with them."""
