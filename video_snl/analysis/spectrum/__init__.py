"""What the blocks of a trained network do, on their graphs' spectra: ``video-snl spectrum``."""
