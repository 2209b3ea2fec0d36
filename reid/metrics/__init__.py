"""Ranking metrics: protocols, distances, re-ranking.

Names that the module of this name had before it became a package are loaded on first use.
"""

from video_snl.utils.moved import names_of

__getattr__ = names_of("reid.report.evaluation", __name__)
