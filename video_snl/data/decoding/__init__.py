"""From the bytes of a video file to frames: opening, packets of H.264, conversion to RGB."""
