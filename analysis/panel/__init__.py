"""The saliency panel: one HTML file to look through the saliency maps of many samples."""
