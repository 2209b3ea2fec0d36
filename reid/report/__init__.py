"""Report of an evaluation: numbers, pages, plots, film strips.

Names that the module of this name had before it became a package are loaded on first use.
"""

from video_snl.utils.moved import names_of

__getattr__ = names_of("reid.report.report", __name__)
