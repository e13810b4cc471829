"""Reading and writing of analyses: steps, artefacts, shared flags, published numbers."""
