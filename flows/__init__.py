"""What can be started: the order of steps, and nothing else."""
