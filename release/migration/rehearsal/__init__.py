"""What a rehearsal on a copy of the schema showed."""
