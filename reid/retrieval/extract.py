"""``reid extract``: features of tracklets in folders or videos.

Many tracklets are encoded in blocks. The blocks that are done lie in the folder ``FILE.parts``,
where a command that was interrupted finds them. The name of a part is the hash of all that its
vectors depend on, so that a part of other images, or of another network, is never taken for it.
"""

from __future__ import annotations

import hashlib
import sys
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from reid.config import ReidDataConfig
from reid.data.reading import is_video
from reid.data.tracklet import Tracklet
from reid.data.tracklet_folders import Layout, find_tracklets
from reid.models.network import TrackletNet
from reid.options import check_data
from reid.pretrained import describe_input
from reid.retrieval.encode import Encoded, encode, table_of
from reid.retrieval.features import FeatureTable, write_features
from reid.trained import TrainedReid, find_network, load_trained
from video_snl._version import __version__
from video_snl.data.workers.cluster import Cluster, map_on_cluster
from video_snl.engine.fit import tell
from video_snl.engine.trainer import device_of
from video_snl.errors import UserError
from video_snl.runs.feature_file import PartFiles
from video_snl.utils.counts import counts
from video_snl.utils.files import check_file, replace_file, state_of, writing
from video_snl.utils.memory import keep_freed_memory
from video_snl.utils.processes import ending_in_order
from video_snl.utils.progress import counted
from video_snl.utils.text import printable

__all__ = ["Layout", "extract", "extract_tracklets", "find_tracklets"]

# Frames of a block; of a video, whose frames are not counted yet, so many are taken for granted.
_BLOCK_FRAMES, _VIDEO_FRAMES = 4096, 64
# What zipfile and NumPy raise where a bit has changed; RuntimeError where it says "encrypted".
_DAMAGED = (OSError, EOFError, KeyError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error)
_ARRAYS = ("features", "num_frames", "skipped_frames", "read")


def extract(
    paths: Sequence[str],
    *,
    checkpoint: str | None,
    published: str | None = None,
    weights: str | None = None,
    output: str,
    layout: Layout,
    test_frames: int | None,
    num_workers: int | None,
    accelerator: str,
    max_pixels: int | None = None,
    cluster: Cluster | None = None,
) -> int:
    """Write the features of all tracklets to a file, or no such file at all.

    What was found in each folder is printed before work starts. Where there are several blocks, the
    same command goes on after an interruption.

    Args:
        checkpoint: Checkpoint, as for :func:`reid.runs.find_checkpoint`.
        published: Name of a published network in its place, with the file of its ``weights``.
        cluster: Ray cluster that reads and encodes the blocks; None: this process.

    Raises:
        UserError: A path that does not exist or holds no tracklet, a tracklet that cannot be read,
            a file that cannot be written, or that another command writes now.
    """
    check_file("--output", output, "feats.parquet", paths)
    network = find_network(checkpoint, published, weights)
    if published is not None:
        tell(describe_input(published))
    keep_freed_memory()
    parts = PartFiles(Path(output), ".npz")
    # Alone to the end: another command would else take parts that are removed.
    with ending_in_order(), parts.alone():
        table = extract_tracklets(
            network,
            paths,
            layout=layout,
            test_frames=test_frames,
            num_workers=num_workers,
            accelerator=accelerator,
            say=lambda line: print(line, flush=True),
            max_pixels=max_pixels,
            parts=parts,
            cluster=cluster,
        )
        with writing("--output", output):
            write_features(Path(output), table)
        parts.remove()
    skipped = int(table.skipped_frames.sum())
    frames = int(table.num_frames.sum())
    print(
        f"{counts(len(table.names), 'tracklet')}, {counts(frames, 'frame')}, "
        f"{counts(table.dimension, 'number')} each"
    )
    if skipped:
        print(f"frames that could not be read and were skipped: {skipped}")
    print(f"features: {output}")
    return 0


def extract_tracklets(
    checkpoint: Path | TrainedReid,
    paths: Sequence[str],
    *,
    layout: Layout = "auto",
    test_frames: int | None = None,
    num_workers: int | None = None,
    accelerator: str | torch.device = "auto",
    say: Callable[[str], None] | None = None,
    max_pixels: int | None = None,
    parts: PartFiles | None = None,
    cluster: Cluster | None = None,
) -> FeatureTable:
    """Compute the features of tracklets, named by their folders, videos or first images.

    Args:
        checkpoint: File of the network, or the network itself.
        paths: Folders or videos.
        layout: Meaning of the folders, and of identity and camera in their names, see
            :func:`reid.data.tracklet_folders.tracklets_in`.
        test_frames: N evenly spaced frames; None for all.
        num_workers: Processes that read; default as in training.
        accelerator: ``auto``, ``cpu`` or ``gpu``, or the device itself.
        say: Takes a line for each folder: what was found in it.
        max_pixels: Most pixels of an image; default as in training.
        parts: Takes the blocks that are done, where there are several, and gives those of before;
            the caller is alone with them.
        cluster: Ray cluster that reads and encodes the blocks, each in a task, where
            ``num_workers`` and ``accelerator`` do not count; None: this process.

    Raises:
        UserError: A path that does not exist, holds no tracklet or may mean two things; a tracklet
            that cannot be read.
    """
    found = find_tracklets(paths, layout, say=say)
    tracklets = list(found.values())
    trained = checkpoint if isinstance(checkpoint, TrainedReid) else load_trained(checkpoint)
    data = trained.experiment.data
    if cluster is not None:  # in each task, one process reads
        data = replace(data, num_workers=1)
    elif num_workers is not None:
        data = replace(data, num_workers=num_workers)
    if max_pixels is not None:
        data = replace(data, max_pixels=max_pixels)
    check_data(data)
    if cluster is not None:
        accelerator = cluster.accelerator
    elif isinstance(accelerator, str):
        accelerator = device_of(accelerator)
    channels_last = trained.experiment.trainer.channels_last
    encode_block = _EncodeBlock(trained.model, data, test_frames, accelerator, channels_last)

    def encoded_blocks(blocks: Sequence[_Block]) -> Generator[Encoded, None, None]:
        if cluster is None:
            return (encode_block(block) for block in blocks)
        return _by_cluster(encode_block, blocks, cluster)

    blocks = list(_blocks(tracklets))
    about = (trained.digest, test_frames, _compared(data), encode_block.device_type, __version__)
    if parts is None or len(blocks) < 2:
        encoded = list(encoded_blocks(blocks))
    else:
        encoded = _resumed(blocks, encoded_blocks, parts, about)
    table = table_of(_joined(encoded), tracklets, trained)
    return replace(table, names=list(found), test_frames=test_frames)


_Block = tuple[list[Tracklet], str]  # and what is said beside its progress


@dataclass
class _EncodeBlock:
    """Features of a block, computed by this process or by a task of Ray.

    Args:
        model, data, test_frames, channels_last: As for :func:`reid.retrieval.encode.encode`.
        accelerator: The device, or ``cpu`` or ``gpu`` of the machine that computes.
    """

    model: TrackletNet
    data: ReidDataConfig
    test_frames: int | None
    accelerator: str | torch.device
    channels_last: bool

    @property
    def device_type(self) -> str:
        """Name of the kind of device, which the vectors depend on."""
        if isinstance(self.accelerator, str):
            return "cuda" if self.accelerator == "gpu" else self.accelerator
        return self.accelerator.type

    def __call__(self, block: _Block) -> Encoded:
        tracklets, what = block
        device = self.accelerator
        return encode(
            self.model,
            tracklets,
            self.data,
            test_frames=self.test_frames,
            device=device_of(device) if isinstance(device, str) else device,
            channels_last=self.channels_last,
            what=what,
        )


def _by_cluster(
    encode_block: _EncodeBlock, blocks: Sequence[_Block], cluster: Cluster
) -> Generator[Encoded, None, None]:
    """Encode blocks by tasks of Ray, and yield them in order.

    Raises:
        UserError: A tracklet cannot be read, or the cluster not be used.
    """
    with closing(map_on_cluster(encode_block, blocks, cluster)) as results:
        for result in counted(results, len(blocks), "blocks of tracklets"):
            if result.value is None:
                lost = f"{result.item[1]}: " if result.kind == "died" else ""
                raise UserError(f"{lost}{result.failure}")
            yield result.value


def _blocks(tracklets: Sequence[Tracklet]) -> Iterator[_Block]:
    """Yield consecutive tracklets of some thousand frames; all of them, and never none."""
    starts, frames = [0], 0
    for number, tracklet in enumerate(tracklets):
        own = _VIDEO_FRAMES if is_video(tracklet) else len(tracklet.frames)
        if frames and frames + own > _BLOCK_FRAMES:
            starts.append(number)
            frames = 0
        frames += own
    total = len(tracklets)
    for start, stop in zip(starts, [*starts[1:], total], strict=True):
        several = f"tracklets {start + 1:,} to {stop:,} of {total:,}"
        yield list(tracklets[start:stop]), "tracklets" if len(starts) == 1 else several


def _compared(data: ReidDataConfig) -> Mapping[str, object]:
    """Return the options of the data that vectors depend on."""
    names = ("frames", "height", "width", "resize", "short_tracklets", "max_pixels")
    return {name: value for name, value in asdict(data).items() if name in names}


def _resumed(
    blocks: Sequence[_Block],
    encoded_blocks: Callable[[Sequence[_Block]], Generator[Encoded, None, None]],
    parts: PartFiles,
    about: object,
) -> list[Encoded]:
    """Encode the blocks that have no part yet, and return what is in all parts.

    Until all are done, none is held in memory.
    """
    paths = [parts.folder / f"part-{_hash(about, block)}{parts.suffix}" for block, _ in blocks]
    there = [
        _read_part(path, len(block)) is not None
        for path, (block, _) in zip(paths, blocks, strict=True)
    ]
    if any(there):
        done = sum(
            len(block) for (block, _), is_there in zip(blocks, there, strict=True) if is_there
        )
        total = sum(len(block) for block, _ in blocks)
        line = f"{done:,} of {counts(total, 'tracklet')} are computed already"
        print(line, file=sys.stderr, flush=True)
    try:
        missing = [at for at, is_there in enumerate(there) if not is_there]
        with closing(encoded_blocks([blocks[at] for at in missing])) as results:
            for at, encoded in zip(missing, results, strict=True):
                _write_part(paths[at], encoded, parts.target)
    except (KeyboardInterrupt, SystemExit):
        if parts.files():
            parts.say_kept()
        raise
    found = [_read_part(path, len(block)) for path, (block, _) in zip(paths, blocks, strict=True)]
    complete = [each for each in found if each is not None]
    if len(complete) < len(blocks):
        raise UserError(f"{parts.folder} has changed meanwhile: give the command again")
    return complete


def _hash(about: object, block: Sequence[Tracklet]) -> str:
    """Compute a hash of what the vectors of a block depend on, the state of its files among it."""
    digest = hashlib.sha256(repr(about).encode())
    for tracklet in block:
        states = [(frame, state_of(frame)) for frame in tracklet.frames]
        digest.update(repr(states).encode(errors="surrogateescape"))
    return digest.hexdigest()[:32]


def _write_part(path: Path, encoded: Encoded, target: Path) -> None:
    def write(place: Path) -> None:
        with place.open("wb") as file:  # np.savez would add a suffix to a name
            np.savez(
                file,
                features=encoded.features.numpy(),
                num_frames=encoded.num_frames,
                skipped_frames=encoded.skipped_frames,
                read=encoded.read,
            )

    with writing("--output", str(target)):
        replace_file(path, write)


def _read_part(path: Path, size: int) -> Encoded | None:
    """Read the part of a block of ``size`` tracklets; None where it is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:  # whose entries have checksums
            arrays = [file[name] for name in _ARRAYS]
    except FileNotFoundError:
        return None
    except _DAMAGED as error:
        _say_damaged(path, f"{type(error).__name__}: {error}")
        return None
    if any(array.shape[:1] != (size,) for array in arrays):
        _say_damaged(path, f"it is not of {counts(size, 'tracklet')}")
        return None
    return Encoded(torch.from_numpy(arrays[0]), *arrays[1:])


def _say_damaged(path: Path, reason: str) -> None:
    line = f"{path} is damaged ({printable(reason)}): its tracklets are computed anew"
    print(line, file=sys.stderr, flush=True)


def _joined(encoded: Sequence[Encoded]) -> Encoded:
    if len(encoded) == 1:
        return encoded[0]
    return Encoded(
        torch.cat([each.features for each in encoded]),
        *(np.concatenate([getattr(each, name) for each in encoded]) for name in _ARRAYS[1:]),
    )
