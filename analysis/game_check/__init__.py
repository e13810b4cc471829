"""Pages of the checks against the real game: forks and true Q."""
