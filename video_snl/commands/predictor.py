"""A trained network, ready to be used from Python: :func:`load` and :class:`Predictor`.

The commands ``predict``, ``features`` and ``explain`` compute what the methods of the same names
do, by the same functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from video_snl.commands.features import Per, compute_features, features_of_views
from video_snl.commands.predict import Views
from video_snl.commands.view_scores import score_image, score_videos, score_views
from video_snl.config.backbones import PRETRAINED
from video_snl.config.statistics import STATISTICS
from video_snl.config.task_spec import VIDEO, AnyExperiment
from video_snl.config.user_code import allowing_code
from video_snl.config.video import DataConfig, ShortVideos
from video_snl.data.image.inference import image_input, read_input
from video_snl.data.video.inference import SHORT_IN_PYTHON, TimedViews, array_views
from video_snl.engine.trainer import device_named
from video_snl.errors import UserError
from video_snl.export.formats import FORMATS, format_of
from video_snl.export.networks import Exported, exported_spec, load_exported
from video_snl.models.video import classifier_input
from video_snl.runs.pretrained import load_pretrained
from video_snl.runs.run import check_loaded, has_record, kind_of, read_record
from video_snl.runs.trained import Trained, find_trained
from video_snl.tasks.action import ActionRecognition
from video_snl.tasks.class_operations import AnyClassOperations, ClassOperations
from video_snl.tasks.images import ImageTask
from video_snl.tasks.metrics import top_classes
from video_snl.tasks.operations import Reading
from video_snl.utils.arrays import as_array
from video_snl.utils.extras import explain_missing
from video_snl.utils.finite import not_finite_error

__all__ = ["Input", "Inputs", "Prediction", "Predictor", "load"]

Input: TypeAlias = "str | Path | np.ndarray | Tensor"
"""A path, or uint8 frames: (T, H, W, 3) of a video, (H, W, 3) of an image."""
Inputs: TypeAlias = "Input | Sequence[Input]"
"""One input, or several."""


@dataclass(frozen=True)
class Prediction:
    """What a network says of one video or image.

    Attributes:
        source: The path, or the array as it is called in messages: ``array 0``.
        classes: Names of the classes, the one with the highest score first.
        scores: Their scores: probabilities, of a segmentation shares of the pixels.
        labels: Of a segmentation, the class of every pixel, int (H, W), an index into
            ``Predictor.classes``; else None.
    """

    source: str
    classes: tuple[str, ...]
    scores: tuple[float, ...]
    labels: np.ndarray | None = field(default=None, compare=False, repr=False)


class Predictor:
    """A trained network with all that is needed to use it; :func:`load` makes it.

    Attributes:
        network: The ``nn.Module``, in evaluation mode on its device: normalised clips
            (B, 3, T, H, W), or images (B, 3, H, W), -> logits.
        classes: Names of the classes, in the order of the logits.
        task: ``video``, ``image`` or ``segmentation``.
        device: Device of the network.
        path: File of its weights.
        mean, std: Statistics that the input is normalised with, for values in [0, 1].
    """

    def __init__(
        self,
        trained: Trained[AnyExperiment],
        device: torch.device,
        *,
        published: str | None = None,
        reading: Reading | None = None,
    ) -> None:
        """Make it of a network that was loaded.

        Args:
            trained: The network; it is moved to the device.
            device: The device.
            published: Name of a network with published weights, whose number of clips and crops is
                the default.
            reading: Options of reading the files.
        """
        operations = trained.spec.make()
        assert isinstance(operations, ClassOperations)
        self._operations: AnyClassOperations = operations
        self._reading = reading or Reading()
        self._trained = operations.reading(trained, self._reading)
        self._published = published
        self._module = operations.scoring_task(self._trained).to(device).eval()
        self.network: nn.Module = self._trained.model
        self.classes: list[str] = list(trained.class_names)
        self.task: str = trained.spec.name
        self.device, self.path = device, trained.path
        self.mean, self.std = trained.mean, trained.std

    def __repr__(self) -> str:
        model = self._trained.experiment.model
        block = "" if model.block == "none" else f" with {model.block}"
        return f"Predictor({self.task}: {model.backbone}{block}, {len(self.classes)} classes)"

    @property
    def config(self) -> dict[str, Any]:
        """Configuration of the training, as plain values by section."""
        return self._trained.experiment.to_dict()

    @property
    def clip(self) -> DataConfig:
        """How a network of videos takes its clips, for :class:`video_snl.VideoDataset`.

        Raises:
            UserError: It is a network of images, or was normalised with statistics of its own.
        """
        data = self._trained.experiment.data
        if not isinstance(data, DataConfig):
            raise UserError(f"a network of the task {self.task} takes no clips")
        for name, statistics in STATISTICS.items():
            if statistics == (self.mean, self.std):
                return replace(data, statistics=name, dataset="folder", root=None)
        raise UserError(
            f"{self.path} was trained with the mean {self.mean} and the standard deviation "
            f"{self.std}, for which data.statistics has no name"
        )

    def predict(
        self,
        inputs: Inputs,
        *,
        fps: float | None = None,
        clips: int | None = None,
        crops: int | None = None,
        top: int | None = None,
    ) -> list[Prediction]:
        """Name the classes of videos or images, as ``predict`` does.

        Args:
            inputs: A path, an array, or a list of these. A folder stands for all videos (images)
                below it. Arrays are uint8: (T, H, W, 3) of a video, (H, W, 3) of an image.
            fps: Frames per second of arrays; needed where the network takes its frames at a
                distance in seconds, as published ones do.
            clips: Clips of a video, evenly spaced over it; None: 10, or as the network was
                published.
            crops: Crops of a clip, 1 or 3; None: 3, or as the network was published.
            top: Number of classes; None for all.

        Returns:
            One for each input, in their order. The scores of a video are the mean probabilities
            over its clips and crops.

        Raises:
            UserError: A file cannot be read, an array has another shape or is too short, or an
                option is out of its range.
        """
        if top is not None and top < 1:
            raise UserError(f"top={top}: give 1 or more")
        views = self._views(clips, crops)
        self._module.eval()
        found = []
        for name, scores, labels in self._scored(self._items(inputs), views, fps):
            best = top_classes(scores, self.classes, top or len(self.classes))
            names, values = zip(*best, strict=True)
            found.append(Prediction(name, names, values, labels))
        return found

    def features(
        self,
        inputs: Inputs,
        *,
        fps: float | None = None,
        clips: int | None = None,
        crops: int | None = None,
        per: Per = "video",
        num_workers: int = 1,
    ) -> np.ndarray:
        """Return what the network's classifier gets, as ``features`` writes it.

        Args:
            inputs, fps, clips, crops: As for :meth:`predict`.
            per: A vector for each ``video``, the mean over its clips, or for each ``clip``.
            num_workers: Processes that read videos.

        Returns:
            float32 (videos, D), or (videos, clips, D) with ``per="clip"``; of images (images, D).

        Raises:
            UserError: As for :meth:`predict`, or the network has no classifier to look into.
        """
        if isinstance(self.network, Exported):
            raise UserError(
                f"{self.path} is an exported graph, which gives scores alone: load the run that it "
                "was exported from"
            )
        if self.task == "segmentation":
            raise UserError("features are of networks that classify, and this one labels pixels")
        if per not in ("clip", "video"):
            raise UserError(f"per={per!r}: choose clip or video")
        if num_workers < 1:
            raise UserError(f"num_workers={num_workers}: give 1 or more")
        views = self._views(clips, crops)
        items = list(self._items(inputs))
        if not items:
            raise UserError("there is nothing to compute features of: name files, or give arrays")
        self._module.eval()
        if isinstance(self._module, ImageTask):
            return np.stack([self._image_features(name, item) for name, item in items])
        found = self._video_features(items, views, per, fps, num_workers)
        return np.stack(found) if per == "clip" else np.concatenate(found)

    def explain(
        self, path: str | Path, *, output: str | Path | None = None, at: str | None = None
    ) -> Path:
        """Write a page on what the blocks look at in a video or image, as ``explain`` does.

        Args:
            path: The video or image.
            output: Folder of the page, figures and maps; None: ``explain-NAME``.
            at: Position that the figures are about, as ``T,ROW,COL`` in the feature map of the
                first block; None: the one whose output depends most on the block's input.

        Returns:
            The page, ``index.html``.

        Raises:
            UserError: The file cannot be read, there is no such position, the folder cannot be
                written, the network is an exported graph, or the extra ``explain`` is missing.
        """
        if isinstance(self.network, Exported):
            raise UserError(
                f"{self.path} is an exported graph, whose blocks cannot be looked into: load the "
                "run that it was exported from"
            )
        try:
            from video_snl.analysis.explain.positions import parse_at
            from video_snl.analysis.explain.run import explain_input, output_folder
        except ModuleNotFoundError as error:
            line = explain_missing(error, ("explain",))
            if line is None:
                raise
            raise UserError(f"Predictor.explain {line}") from error
        position = None if at is None else parse_at(at)
        name, item = self._operations.find_input(str(path), self._reading)
        folder = output_folder(None if output is None else str(output), name)
        self._module.eval()
        _, page = explain_input(
            [self._trained], name, item, folder, at=position, device=self.device
        )
        return page

    def _views(self, clips: int | None, crops: int | None) -> Views:
        """Return the views of a video that are looked at.

        Raises:
            UserError: A number is out of its range, or given for images.
        """
        if self.task != VIDEO.name and (clips, crops) != (None, None):
            raise UserError(
                f"clips and crops are of videos: leave them out of {self.task} networks"
            )
        if clips is not None and clips < 1:
            raise UserError(f"clips={clips}: give 1 or more")
        if crops not in (None, 1, 3):
            raise UserError(f"crops={crops}: give 1 or 3")
        views = Views(clips, crops)
        return views if self._published is None else views.published(self._published)

    def _items(self, inputs: Inputs) -> Iterator[tuple[str, Path | np.ndarray]]:
        """Yield every input with its name; folders are taken apart."""
        listed = [inputs] if isinstance(inputs, str | Path | np.ndarray | Tensor) else inputs
        if not isinstance(listed, Iterable):
            raise UserError(f"expected a path, an array or a list of these, found {listed!r:.60}")
        for number, each in enumerate(listed):
            if isinstance(each, str | Path):
                found = self._operations.find_inputs([str(each)], "predict", self._reading)
                yield from ((name, Path(name)) for name, _ in found)
            else:
                yield f"array {number}", as_array(each, f"array {number}")

    def _scored(
        self, items: Iterable[tuple[str, Path | np.ndarray]], views: Views, fps: float | None
    ) -> Iterator[tuple[str, Tensor, np.ndarray | None]]:
        """Yield the name of every input, its scores (classes,), and the labels of its pixels."""
        task = self._module
        if isinstance(task, ImageTask):
            for name, item in items:
                yield (name, *score_image(task, self._image(name, item), name))
            return
        assert isinstance(task, ActionRecognition)
        task.crops = views.crops_of_clip
        data, count = task.experiment.data, views.count
        # Files that follow each other are read ahead; of arrays, one at a time is in memory.
        for are_files, part in groupby(items, key=lambda named: isinstance(named[1], Path)):
            if are_files:
                paths = [name for name, _ in part]
                with closing(score_videos(task, paths, count, if_short=SHORT_IN_PYTHON)) as read:
                    for name, scores in read:
                        if isinstance(scores, UserError):
                            raise scores
                        yield name, scores, None
                continue
            for name, item in part:
                assert isinstance(item, np.ndarray)
                clips = array_views(item, data, count, rate=fps, name=name)
                yield name, score_views(task, clips[None], name)[0], None

    def _image(self, name: str, item: Path | np.ndarray) -> Tensor:
        """Return an image as the network is given it, uint8 (H, W, 3)."""
        data = self._trained.experiment.data
        if isinstance(item, Path):
            return read_input(item, data)
        if item.dtype != np.uint8 or item.ndim != 3 or item.shape[2] != 3 or not item.size:
            raise UserError(
                f"{name}: expected an image as uint8 of shape (H, W, 3), found {item.dtype} of "
                f"shape {item.shape}"
            )
        return image_input(Image.fromarray(np.ascontiguousarray(item)), name, data)

    @torch.inference_mode()
    def _image_features(self, name: str, item: Path | np.ndarray) -> np.ndarray:
        task = self._module
        assert isinstance(task, ImageTask)
        images = self._image(name, item)[None].to(self.device)
        vector = classifier_input(task.model)(task.evaluation_input(images))[0].float()
        if not vector.isfinite().all():
            raise not_finite_error(name)
        return vector.cpu().numpy()

    def _video_features(
        self,
        items: Sequence[tuple[str, Path | np.ndarray]],
        views: Views,
        per: Per,
        fps: float | None,
        num_workers: int,
    ) -> list[np.ndarray]:
        """Return the vectors of every video, each (clips, D) or (1, D)."""
        task = self._module
        assert isinstance(task, ActionRecognition)
        task.crops = views.crops_of_clip
        data, count = task.experiment.data, views.count
        paths = list(dict.fromkeys(name for name, item in items if isinstance(item, Path)))
        read: dict[str, np.ndarray] = {}
        computed = compute_features(task, paths, count, per, num_workers, if_short=SHORT_IN_PYTHON)
        for path, result in computed if paths else ():
            if isinstance(result, UserError):
                computed.close()  # and the processes that read the others
                raise result
            read[path] = result.vectors
        unknown = np.full((count, 2), np.nan)
        vectors = []
        for name, item in items:
            if isinstance(item, Path):
                vectors.append(read[name])
                continue
            found = TimedViews(array_views(item, data, count, rate=fps, name=name), unknown)
            vectors.append(features_of_views(task, found, per, name).vectors)
        return vectors


def load(
    source: str | Path,
    weights: str | Path | None = None,
    device: str | torch.device = "auto",
    *,
    short_videos: ShortVideos | None = None,
    deadline: float | None = None,
    max_pixels: int | None = None,
    allow_code: bool = False,
) -> Predictor:
    """Load a trained network, to be used on videos or images.

    Args:
        source: A network with published weights by its name (``x3d_xs``), the folder of a run, a
            checkpoint, a published folder, or an exported file (``.pt2``, ``.onnx``).
        weights: File of the weights of a published network; None: they are fetched once.
        device: ``auto`` (a GPU where there is one), ``cpu``, ``gpu``, or a device of torch.
        short_videos: What becomes of a video shorter than a clip: ``error``, ``repeat_last`` or
            ``wrap``; None: as in training.
        deadline: Seconds of decoding after which a file is given up; None: as in training.
        max_pixels: Most pixels of an image or a frame; None: as in training.
        allow_code: Import the modules that the network's configuration names for a block of
            somebody's own, which runs their code; without it such a network is refused.

    Raises:
        UserError: There is no such network, it is damaged or of another program, or the device is
            not there.
    """
    if short_videos not in (None, "error", "repeat_last", "wrap"):
        raise UserError(f"short_videos={short_videos!r}: choose error, repeat_last or wrap")
    reading = Reading(short_videos, deadline, max_pixels)
    named, path = str(source), Path(source).expanduser()
    if named in PRETRAINED and not path.exists():
        chosen = device_named(device)
        trained = load_pretrained(named, None if weights is None else str(weights))
        return Predictor(trained, chosen, published=named, reading=reading)
    check_loaded(named, weights, PRETRAINED, "load('x3d_xs', weights=FILE)")
    if path.suffix in [form.suffix for form in FORMATS.values()]:
        # onnxruntime is used on the CPU alone.
        is_onnx = format_of(path) == "onnx"
        chosen = device_named("cpu" if is_onnx and device == "auto" else device)
        if is_onnx and chosen.type != "cpu":
            raise UserError(f"{path}: ONNX files run on the CPU here; give device='cpu'")
        return Predictor(load_exported(path, exported_spec(path), chosen), chosen, reading=reading)
    if has_record(path) and kind_of(read_record(path, VIDEO)) == "reid":
        raise UserError(f"{path} is a run of reid: use reid.load")
    chosen = device_named(device)
    with allowing_code(allow_code):
        return Predictor(find_trained(str(path)), chosen, reading=reading)
