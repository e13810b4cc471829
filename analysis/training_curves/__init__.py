"""Training logs as curves and figures."""
