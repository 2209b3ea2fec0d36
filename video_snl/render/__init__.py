"""Predictions drawn on the videos and images they belong to: ``video-snl predict --render``."""
