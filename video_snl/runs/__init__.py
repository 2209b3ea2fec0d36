"""What is on disk: run folders, checkpoints, published folders."""
