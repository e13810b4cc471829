"""The world model: encoder, latent, recurrent state, motion, decoder and outcome heads."""
