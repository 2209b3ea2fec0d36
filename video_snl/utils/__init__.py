"""Helpers that every part of the packages may use; all but ``finite`` are without torch."""
