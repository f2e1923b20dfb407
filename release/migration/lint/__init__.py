"""What is wrong with a migration, and what to write instead."""
