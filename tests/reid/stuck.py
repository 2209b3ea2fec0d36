"""A tracklet that hangs what reads it; worker processes load this module."""

from __future__ import annotations

import ctypes

from reid.data.loading import TrackletDataset
from video_snl.data.loading.collate import Sample
from video_snl.data.loading.samplers import Key


class Stuck(TrackletDataset):
    """Never returns from a tracklet whose folder is called stuck, and keeps Python's lock."""

    def sample(self, key: Key, index_read: int) -> Sample:
        if "stuck" in self.items[index_read].path:
            ctypes.PyDLL(None).sleep(1000)
        return super().sample(key, index_read)
