"""Training: Lightning's Trainer runs the loops, with our callbacks, plots and resuming."""
