"""The commands that use data or a trained network."""
