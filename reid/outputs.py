"""Files and folders that commands are told to write: looked at before the work, not after it."""

from __future__ import annotations

from video_snl.utils.files import check_file, check_folder, writing

__all__ = ["check_file", "check_folder", "writing"]
