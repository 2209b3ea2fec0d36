"""Published weights: where they are, their formats, how they are loaded."""
