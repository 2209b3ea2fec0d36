"""What the commands do: train, evaluate, predict, describe. Lightning's Trainer runs the loops."""
