"""The paper's tables of image experiments: their cells, running them, and what came out."""
