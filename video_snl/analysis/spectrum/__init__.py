"""Spectra of blocks: eigenvalues of affinities and responses of filters, ``video-snl spectrum``."""
