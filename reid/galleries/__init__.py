"""Galleries that are kept: features of tracklets by name, in a folder or a PostgreSQL database."""
