"""Pages and figures of the checks against the real game: forks of both worlds, and true Q."""
