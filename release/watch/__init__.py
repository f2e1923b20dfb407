"""Whether a release may stay: the triggers, the bake, the watch and its report."""
