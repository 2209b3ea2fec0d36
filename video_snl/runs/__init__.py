"""Files of a training: run folders, checkpoints, published folders."""
