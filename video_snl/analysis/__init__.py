"""Analysis of the blocks of a trained network."""
