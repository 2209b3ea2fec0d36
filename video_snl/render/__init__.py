"""Predictions drawn on the videos and pictures they are of: ``video-snl predict --render``."""
