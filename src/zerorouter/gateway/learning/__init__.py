"""Learning while serving: what feedback and served requests teach, for all workers at once."""
