"""What the blocks of a trained network do."""
