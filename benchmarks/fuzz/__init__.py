"""Hostile files: thousands of damaged and forged inputs for every reader of files."""
