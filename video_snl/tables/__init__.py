"""The paper's tables: their cells, running them, and what came out."""
