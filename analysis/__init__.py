"""What the rollouts say: numbers are precomputed into artefacts, figures are drawn from those."""
