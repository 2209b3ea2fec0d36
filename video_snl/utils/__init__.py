"""Helpers without torch that every part of the packages may use."""
