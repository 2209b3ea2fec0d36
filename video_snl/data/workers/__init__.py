"""Worker processes with a deadline for every task."""
