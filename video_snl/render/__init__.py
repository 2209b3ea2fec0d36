"""Predictions drawn on videos and images: ``video-snl predict --render``."""
