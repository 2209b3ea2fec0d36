"""Decoding of video files into frames: opening, packets of H.264, conversion to RGB."""
