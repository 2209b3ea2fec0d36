"""Generated sample datasets."""
