"""What everything else stands on: protocols, noise, statistics, runs and checkpoints."""
