#!/usr/bin/env python
"""What a user would write instead of ``video-snl train``: a plain training with Lightning.

    python scripts/benchmarks/plain_lightning.py VIDEOS [workers]

VIDEOS holds train/<class>/*. The network, the clips (4 frames of 80 x 80, short side 80), the batch
of 8 and the optimiser are those of the defaults of ``video-snl train``. It keeps no record,
gets over no unreadable video, writes no checkpoint and is not reproducible.
"""

import random
import sys
from pathlib import Path

import av
import lightning.pytorch as pl
import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from video_snl import insert_blocks
from video_snl.models.i3d import i3d_small


class Clips(Dataset):
    def __init__(self, root):
        self.files = sorted(Path(root, "train").glob("*/*"))
        self.classes = sorted({file.parent.name for file in self.files})

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        with av.open(str(self.files[index])) as video:
            video.streams.video[0].thread_type = "NONE"
            short = min(video.streams.video[0].width, video.streams.video[0].height)
            width = round(video.streams.video[0].width * 80 / short)
            height = round(video.streams.video[0].height * 80 / short)
            start = random.randrange(max(1, video.streams.video[0].frames - 3))
            frames = [
                frame.to_ndarray(format="rgb24", width=width, height=height)
                for number, frame in zip(range(start + 4), video.decode(video=0), strict=False)
                if number >= start
            ]
        x, y = random.randint(0, width - 80), random.randint(0, height - 80)
        clip = torch.from_numpy(np.stack(frames))[:, y : y + 80, x : x + 80].movedim(-1, 0)
        clip = clip.flip(-1) if random.random() < 0.5 else clip
        return (clip / 255 - 0.45) / 0.225, self.classes.index(self.files[index].parent.name)


class Recognition(pl.LightningModule):
    def __init__(self, classes):
        super().__init__()
        self.model = i3d_small(classes)
        insert_blocks(self.model, "snl")

    def training_step(self, batch, _):
        clips, labels = batch
        return functional.cross_entropy(self.model(clips), labels)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)


if __name__ == "__main__":
    clips = Clips(sys.argv[1])
    workers = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    loader = DataLoader(clips, 8, shuffle=True, num_workers=workers, persistent_workers=True)
    pl.Trainer(max_epochs=1, logger=False, enable_checkpointing=False).fit(
        Recognition(len(clips.classes)), loader
    )
