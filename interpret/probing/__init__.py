"""Linear probes, decoding scores, and the baselines they have to beat."""
