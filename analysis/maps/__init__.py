"""Maps of hidden states, latents, environment states and the whole loop."""
