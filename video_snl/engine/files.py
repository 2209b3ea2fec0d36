"""Files that are either whole or absent: the functions of :mod:`video_snl.utils.files`."""

from __future__ import annotations

from video_snl.utils.files import replace_file, replacing, write_json, write_text

__all__ = ["replace_file", "replacing", "write_json", "write_text"]
