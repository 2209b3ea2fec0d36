"""Datasets of tracklets in their published layouts."""
