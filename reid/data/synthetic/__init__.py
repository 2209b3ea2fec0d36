"""The generated sample dataset."""
