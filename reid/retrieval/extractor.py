"""A trained Re-ID network, ready to be used from Python: :func:`load` and :class:`Extractor`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from reid.data.tracklet_folders import Layout
from reid.models.network import TrackletNet
from reid.pretrained import PRETRAINED
from reid.retrieval.encode import encode_arrays
from reid.retrieval.extract import extract_tracklets
from reid.retrieval.features import FeatureTable
from reid.runs import find_checkpoint
from reid.trained import TrainedReid, load_trained, pretrained
from video_snl.config.user_code import allowing_code
from video_snl.engine.trainer import device_named
from video_snl.errors import UserError
from video_snl.runs.run import check_loaded
from video_snl.utils.arrays import as_array

__all__ = ["Extractor", "load"]

Frames: TypeAlias = np.ndarray | Tensor
"""The frames of one person, uint8 (T, H, W, 3)."""


class Extractor:
    """A trained network of tracklets; :func:`load` makes it.

    Attributes:
        network: The ``nn.Module``, in evaluation mode: normalised clips (B, 3, T, H, W) ->
            :class:`~reid.models.network.TrackletOutput`.
        device: Device of the network.
        path: File of its weights.
    """

    def __init__(self, trained: TrainedReid, device: torch.device) -> None:
        self._trained = trained
        self.network: TrackletNet = trained.model.to(device).eval()
        self.device, self.path = device, trained.path

    def __repr__(self) -> str:
        model = self._trained.experiment.model
        return f"Extractor({model.backbone}, vectors of {self.dimension} numbers)"

    @property
    def dimension(self) -> int:
        """Length D of a feature vector."""
        return self.network.feature_dim

    def extract(
        self,
        tracklets: str | Path | Frames | Sequence[str | Path] | Sequence[Frames],
        *,
        layout: Layout = "auto",
        test_frames: int | None = None,
        num_workers: int | None = None,
    ) -> np.ndarray:
        """Return the features of tracklets, as ``reid extract`` computes them.

        Args:
            tracklets: A folder of tracklets, a tracklet (a folder of frames, or a video), or
                several of these; or the frames of a person, uint8 (T, H, W, 3), or a list of such
                arrays, of any T, H and W.
            layout: Meaning of folders, as ``--layout`` of ``reid extract``.
            test_frames: Number of evenly spaced frames that are looked at; None: all.
            num_workers: Processes that read files; None: as in training.

        Returns:
            float32 (N, D), in the order of the arrays, or of :meth:`table`.

        Raises:
            UserError: A path does not exist, holds no tracklet, or may mean two things; a tracklet
                cannot be read; or an array has another shape.
        """
        if test_frames is not None and test_frames < 1:
            raise UserError(f"test_frames={test_frames}: give 1 or more")
        listed = _inputs(tracklets, (str, Path, np.ndarray, Tensor), "paths or arrays of frames")
        if not listed:
            return np.zeros((0, self.dimension), np.float32)
        arrays = [_frames(each, n) for n, each in enumerate(listed) if isinstance(each, Frames)]
        if not arrays:
            paths = [str(each) for each in listed]
            found = self.table(
                paths, layout=layout, test_frames=test_frames, num_workers=num_workers
            )
            return found.features
        if len(arrays) < len(listed):
            raise UserError("paths and arrays in one list: extract them by themselves")
        experiment = self._trained.experiment
        return encode_arrays(
            self.network,
            arrays,
            experiment.data,
            test_frames=test_frames,
            device=self.device,
            channels_last=experiment.trainer.channels_last,
        ).numpy()

    def table(
        self,
        paths: str | Path | Sequence[str | Path],
        *,
        layout: Layout = "auto",
        test_frames: int | None = None,
        num_workers: int | None = None,
    ) -> FeatureTable:
        """Return features with the names of the tracklets, their identities and cameras.

        It is what :class:`reid.Gallery` adds, and what ``reid extract`` writes.

        Args:
            paths: A folder of tracklets, a tracklet, or several of these.
            layout, test_frames, num_workers: As for :meth:`extract`.

        Raises:
            UserError: As for :meth:`extract`.
        """
        listed = _inputs(paths, (str, Path), "paths")
        return extract_tracklets(
            self._trained,
            [str(path) for path in listed],
            layout=layout,
            test_frames=test_frames,
            num_workers=num_workers,
            accelerator=self.device,
        )


def load(
    source: str | Path,
    weights: str | Path | None = None,
    device: str | torch.device = "auto",
    *,
    allow_code: bool = False,
) -> Extractor:
    """Load a trained network of tracklets.

    Args:
        source: A network with published weights by its name (``osnet_x0_25_msmt17``), the folder of
            a run, a checkpoint, or a published folder.
        weights: File of the weights of a published network; None: that in torch hub's cache.
        device: ``auto`` (a GPU where there is one), ``cpu``, ``gpu``, or a device of torch.
        allow_code: Import the modules that the network's configuration names for a block of
            somebody's own, which runs their code; without it such a network is refused.

    Raises:
        UserError: There is no such network, it is damaged or of another program, or the device is
            not there.
    """
    chosen = device_named(device)
    named, path = str(source), Path(source).expanduser()
    if named in PRETRAINED and not path.exists():
        return Extractor(pretrained(named, weights), chosen)
    check_loaded(named, weights, PRETRAINED, "load('osnet_x0_25_msmt17', weights=FILE)")
    with allowing_code(allow_code):
        return Extractor(load_trained(find_checkpoint(str(path), option="reid.load")), chosen)


def _inputs(given: Any, kinds: tuple[type, ...], expected: str) -> list[Any]:
    """Return one or several inputs as a list.

    Raises:
        UserError: One is of another type.
    """
    if isinstance(given, kinds):
        return [given]
    listed = list(given) if isinstance(given, Iterable) else [given]
    for each in listed:
        if not isinstance(each, kinds):
            raise UserError(f"expected {expected}, one or a list, found {each!r:.60}")
    return listed


def _frames(frames: Frames, number: int) -> Tensor:
    """Return the frames of a tracklet.

    Raises:
        UserError: They are of another type or shape.
    """
    array = as_array(frames, f"array {number}")
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[3] != 3 or not array.size:
        raise UserError(
            f"array {number}: expected frames as uint8 of shape (T, H, W, 3), found {array.dtype} "
            f"of shape {array.shape}"
        )
    return torch.from_numpy(np.ascontiguousarray(array))
