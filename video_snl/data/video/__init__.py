"""Video datasets: their lists, clips and windows."""
