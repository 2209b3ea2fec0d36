"""``video-snl predict``: classes of videos, of windows over them, of images and their pixels."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from video_snl.commands.streams import predict_stream
from video_snl.commands.view_scores import (
    best_classes,
    score_image,
    score_videos,
    score_views,
    score_windows,
)
from video_snl.config.task_spec import AnyExperiment, TaskSpec
from video_snl.data.image.inference import read_input
from video_snl.data.image.reading import read_image
from video_snl.data.loading.quarantine import named
from video_snl.data.video.sources import Patience, only_source
from video_snl.data.video.windows import Length, parse_length
from video_snl.data.workers.cluster import Cluster, map_on_cluster
from video_snl.engine.trainer import device_of
from video_snl.errors import UserError
from video_snl.render.fonts import Line
from video_snl.render.image import labelled, overlaid, save_image, targets
from video_snl.render.video import FORMATS, captions_of, render_video
from video_snl.runs.pretrained import describe_input, find_pretrained, load_pretrained
from video_snl.runs.run import checkpoint_path
from video_snl.runs.trained import Trained, load_trained
from video_snl.tasks.action import ActionRecognition
from video_snl.tasks.base import Task
from video_snl.tasks.class_operations import ClassOperations
from video_snl.tasks.images import ImageTask
from video_snl.tasks.metrics import top_classes
from video_snl.tasks.operations import Reading
from video_snl.utils.json_text import to_json
from video_snl.utils.media import named_once
from video_snl.utils.memory import keep_freed_memory
from video_snl.utils.text import printable, shown_path

__all__ = [
    "Plot",
    "Views",
    "best_classes",
    "network_of",
    "predict",
    "score_views",
    "score_windows",
    "top_classes",
]

# Clips of a whole video; a window has a single one unless asked otherwise.
_CLIPS, _CROPS = 10, 3


@dataclass(frozen=True)
class Views:
    """Parts of a video that are scored.

    Attributes:
        clips: Clips of a video or a window, evenly spaced; None: 10 (of a published network, its
            own number), or 1 of a window.
        crops: Crops of a clip, 1 or 3; None: 3, or a published network's own number.
        window, hop: Length of a window and from the start of one to the next, such as ``2.5s`` or
            ``64f``.

    Raises:
        UserError: There are no clips, or a hop without a window.
    """

    clips: int | None = None
    crops: int | None = None
    window: str | None = None
    hop: str | None = None

    def __post_init__(self) -> None:
        if self.clips is not None and self.clips < 1:
            raise UserError("--clips must be at least 1.")
        if self.window is None and self.hop is not None:
            raise UserError(f"--hop {self.hop} is between windows: give their length, --window 2s")

    @property
    def count(self) -> int:
        """Number of clips."""
        if self.clips is not None:
            return self.clips
        return _CLIPS if self.window is None else 1

    @property
    def crops_of_clip(self) -> int:
        """Number of crops of a clip."""
        return _CROPS if self.crops is None else self.crops

    def published(self, name: str) -> Views:
        """Return these views, where they are not given with the numbers of a published network."""
        recipe = find_pretrained(name).recipe
        assert recipe is not None
        clips = recipe.clips if self.clips is None and self.window is None else self.clips
        return replace(self, clips=clips, crops=self.crops or recipe.crops)

    def lengths(self) -> tuple[Length, Length] | None:
        """Return the lengths of window and hop.

        Raises:
            UserError: A value is not a length.
        """
        if self.window is None:
            return None
        length = parse_length("--window", self.window)
        return length, length if self.hop is None else parse_length("--hop", self.hop)


@dataclass(frozen=True)
class Plot:
    """Figure of the scores of windows over time, with the actions found.

    Attributes:
        target: File, or folder for several videos; None for no figure.
        threshold: Least score of an action.

    Raises:
        UserError: The threshold is not a score.
    """

    target: str | None = None
    threshold: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise UserError(f"--threshold {self.threshold}: give a score, above 0 and at most 1.")


def predict(
    paths: list[str],
    spec: TaskSpec,
    *,
    checkpoint: str | None,
    model: str | None = None,
    pretrained: str | None = None,
    weights: str | None = None,
    top: int = 5,
    views: Views | None = None,
    reading: Reading | None = None,
    accelerator: str = "auto",
    as_json: bool = False,
    render: str | None = None,
    plot: Plot | None = None,
    patience: Patience | None = None,
    cluster: Cluster | None = None,
) -> int:
    """Print the ``top`` classes of every file: by score, or by their share of its pixels.

    Of a stream, see :func:`~video_snl.commands.streams.predict_stream`.

    Args:
        paths: Files, or folders of them; or one stream.
        spec: The kind of task.
        checkpoint: Checkpoint, as for :func:`~video_snl.runs.run.checkpoint_path`.
        model: An exported file in the place of a checkpoint.
        pretrained: Name of a network with published weights in the place of a checkpoint.
        weights: File of these weights.
        top: Number of classes.
        views: Parts of a video that are scored.
        reading: Options for reading the files.
        accelerator: ``auto``, ``cpu`` or ``gpu``.
        as_json: Print JSON in the place of a table.
        render: File or folder for the files with their classes drawn on them.
        plot: Figure of the scores of windows over time.
        patience: What becomes of a stream that stops, or that is too fast; None: the defaults.
        cluster: Ray cluster that reads and scores the files; None: this process.

    Returns:
        0; 2 when a file could not be read or scored (or a video not be rendered), else 1 when an
        image could not be rendered.

    Raises:
        UserError: An option does not fit, or the network cannot be loaded.
    """
    views, reading, plot = views or Views(), reading or Reading(), plot or Plot()
    if top < 1:
        raise UserError("--top must be at least 1.")
    views.lengths()
    if plot.target is not None and views.window is None:
        raise UserError(
            f"--plot {plot.target} shows windows over time: give their length, --window 2s"
        )
    operations = spec.make()
    assert isinstance(operations, ClassOperations)
    files, source = [], only_source(paths)
    if source is None:
        inputs = [Path(path) for path, _ in operations.find_inputs(paths, "predict", reading)]
        files = named_once(inputs, "video-snl predict")
    elif spec.inputs != "videos":
        raise UserError(f"{source.called} is a stream, which is for networks of videos")
    elif views.window is None:
        raise UserError(
            f"{source.called} is a stream, which is scored by windows: give their length, "
            "such as --window 2s"
        )
    elif render or plot.target:
        option = "--render" if render else "--plot"
        raise UserError(f"{source.called} is a stream, which is not drawn: leave out {option}")
    rendered: Mapping[Path, Path] = {}
    if render is not None:
        of_videos = spec.inputs == "videos"
        suffixes = list(FORMATS) if of_videos else [".png"]
        rendered = targets(render, files, suffixes=suffixes, folder_only=not of_videos)
    plotted: Mapping[Path, Path] = {}
    if plot.target is not None:
        plotted = targets(plot.target, files, suffixes=[".png"], option="--plot")
    own = accelerator if cluster is None else "cpu"
    if pretrained is None:
        trained, device = network_of(spec, checkpoint, model, own)
    else:
        views = views.published(pretrained)
        trained, device = load_pretrained(pretrained, weights), device_of(own)
        if not as_json:
            line = describe_input(pretrained, views.count, views.crops_of_clip)
            print(line, file=sys.stderr, flush=True)
    trained = operations.reading(trained, reading)
    keep_freed_memory()
    # An image task stands for both until its network is known.
    exact = trained.spec.make()
    assert isinstance(exact, ClassOperations)
    predictor = _predictor(exact.scoring_task(trained).to(device).eval(), top, views)
    if source is not None:
        assert isinstance(predictor, _VideoPredictor)
        return predict_stream(predictor.task, source, top, views, patience or Patience())
    results, code = [], 0
    by = predictor.found_in(files) if cluster is None else _by_cluster(predictor, files, cluster)
    for path, parts in by:
        found, error = _predicted(predictor, path, parts, show=not as_json)
        failed = 2 if error is not None else 0
        if found and error is None and path in rendered:
            error = _rendered(predictor, path, rendered[path], found, show=not as_json)
            failed = predictor.unrendered if error is not None else 0
        if found and path in plotted:
            unplotted = _plotted(predictor, path, plotted[path], found, plot, show=not as_json)
            failed, error = (2, unplotted) if unplotted is not None else (failed, error)
        results += [found.entries] if found else []
        code = max(code, failed)
        if error is not None:
            print(f"video-snl predict: error: {error}", file=sys.stderr, flush=True)
    if as_json:
        print(to_json(results, indent=2))
    return code


def network_of(
    spec: TaskSpec, checkpoint: str | None, model: str | None, accelerator: str
) -> tuple[Trained[AnyExperiment], torch.device]:
    """Load a checkpoint or an exported file, and find the device it runs on.

    Raises:
        UserError: There is none, it is damaged, or the device is not there.
    """
    if model is None:
        trained = load_trained(checkpoint_path(checkpoint, spec), spec)
        assert isinstance(trained, Trained)
        return trained, device_of(accelerator)
    from video_snl.export.networks import find_exported

    return find_exported(model, spec, accelerator)


class _Found(NamedTuple):
    """Predictions for a file or a part of it.

    Attributes:
        entries: Entries of JSON.
        labels: Class of every pixel of an image, int (h, w); None unless it was segmented.
        scores: Scores of the windows, (windows, classes); None without windows.
    """

    entries: dict[str, Any]
    labels: np.ndarray | None = None
    scores: np.ndarray | None = None


_TaskT = TypeVar("_TaskT", ActionRecognition, ImageTask)


class _Predictor(ABC, Generic[_TaskT]):
    """Functions that predict, show and render one kind of input."""

    key: str
    """Entry of its path in JSON."""
    unrendered: int
    """Exit code where one cannot be rendered."""

    def __init__(self, task: _TaskT, top: int) -> None:
        self.task: _TaskT = task
        self.top = top

    @property
    def max_pixels(self) -> int:
        return int(self.task.experiment.data.max_pixels)

    def found_in(self, files: Iterable[Path]) -> Iterator[tuple[Path, Iterator[_Found]]]:
        """Yield every file with the :meth:`parts` that are found in it."""
        return ((path, self.parts(path)) for path in files)

    @abstractmethod
    def parts(self, path: Path) -> Iterator[_Found]:
        """Yield what is found in a file, a part at a time.

        Raises:
            UserError: It cannot be read or scored any further.
        """

    def whole(self, parts: list[_Found]) -> _Found:
        """Return what is found in all parts."""
        return parts[0]

    @abstractmethod
    def render(self, path: Path, target: Path, found: _Found) -> None:
        """Write a file with what was found in it."""


class _VideoPredictor(_Predictor[ActionRecognition]):
    key, unrendered = "video", 2

    def __init__(self, task: ActionRecognition, top: int, views: Views) -> None:
        super().__init__(task, top)
        task.crops = views.crops_of_clip
        self.clips, self.lengths = views.count, views.lengths()

    def found_in(self, files: Iterable[Path]) -> Iterator[tuple[Path, Iterator[_Found]]]:
        if self.lengths is not None:
            yield from super().found_in(files)
            return
        with closing(score_videos(self.task, map(str, files), self.clips)) as scored:
            for path, scores in scored:
                yield Path(path), self._whole(scores)

    def _whole(self, scores: Tensor | UserError) -> Iterator[_Found]:
        if isinstance(scores, UserError):
            raise scores
        yield _Found({"predictions": best_classes(scores, self.task.class_names, self.top)})

    def parts(self, path: Path) -> Iterator[_Found]:
        names = self.task.class_names
        assert self.lengths is not None
        windows = score_windows(self.task, str(path), *self.lengths, clips=self.clips)
        for start, end, scores in windows:
            times = {"start": round(start, 3), "end": round(end, 3)}
            entries = times | {"predictions": best_classes(scores, names, self.top)}
            yield _Found(entries, scores=scores.numpy()[None])

    def whole(self, parts: list[_Found]) -> _Found:
        if not self.lengths:
            return parts[0]
        scores = np.concatenate([part.scores for part in parts if part.scores is not None])
        return _Found({"windows": [part.entries for part in parts]}, scores=scores)

    def render(self, path: Path, target: Path, found: _Found) -> None:
        render_video(str(path), target, captions_of(found.entries), self.max_pixels)


class _ImagePredictor(_Predictor[ImageTask]):
    key, unrendered = "picture", 1

    def parts(self, path: Path) -> Iterator[_Found]:
        image = read_input(path, self.task.experiment.data)
        scores, labels = score_image(self.task, image, str(path))
        names = self.task.class_names
        yield _Found({"predictions": best_classes(scores, names, self.top)}, labels)

    def render(self, path: Path, target: Path, found: _Found) -> None:
        image = read_image(str(path), max_pixels=self.max_pixels)
        if found.labels is not None:
            save_image(overlaid(image, found.labels, self.task.class_names), target)
            return
        best = found.entries["predictions"]
        lines = [Line(each["class"], f"{each['score']:.1%}") for each in best]
        save_image(labelled(image, lines), target)


def _predictor(task: Task, top: int, views: Views) -> _VideoPredictor | _ImagePredictor:
    if isinstance(task, ActionRecognition):
        return _VideoPredictor(task, top, views)
    assert isinstance(task, ImageTask)
    return _ImagePredictor(task, top)


@dataclass
class _FoundIn:
    """What is found in a file, and what went wrong, by a task of Ray."""

    predictor: _VideoPredictor | _ImagePredictor
    accelerator: str

    def __call__(self, path: Path) -> tuple[list[_Found], str | None]:
        self.predictor.task.to(device_of(self.accelerator))
        found: list[_Found] = []
        for _, parts in self.predictor.found_in([path]):
            try:
                found.extend(parts)
            except UserError as failure:
                return found, str(failure)
        return found, None


def _by_cluster(
    predictor: _VideoPredictor | _ImagePredictor, files: Sequence[Path], cluster: Cluster
) -> Iterator[tuple[Path, Iterator[_Found]]]:
    """Yield what :meth:`_Predictor.found_in` yields, found by tasks of Ray."""
    function = _FoundIn(predictor, cluster.accelerator)
    with closing(map_on_cluster(function, files, cluster)) as results:
        for result in results:
            failure = named(str(result.item), str(result.failure))
            yield result.item, _parts(*(result.value or ([], failure)))


def _parts(found: list[_Found], failure: str | None) -> Iterator[_Found]:
    yield from found
    if failure is not None:
        raise UserError(failure)


def _predicted(
    predictor: _VideoPredictor | _ImagePredictor,
    path: Path,
    parts: Iterator[_Found],
    *,
    show: bool,
) -> tuple[_Found | None, str | None]:
    """Return what is found in a file, and what went wrong: of a long video, some of both."""
    found: list[_Found] = []
    error = None
    try:
        for part in parts:
            if show:
                head = [] if found else [shown_path(path)]
                print(*head, _lines(part.entries), sep="\n", flush=True)
            found.append(part)
    except UserError as failure:
        error = str(failure)
    if not found:
        return None, error
    whole = predictor.whole(found)
    failed = {"error": error} if error else {}
    entries = {predictor.key: str(path), **whole.entries, **failed}
    return whole._replace(entries=entries), error


def _rendered(
    predictor: _VideoPredictor | _ImagePredictor,
    path: Path,
    target: Path,
    found: _Found,
    *,
    show: bool,
) -> str | None:
    """Render a file and note where; return what went wrong."""
    try:
        predictor.render(path, target, found)
    except UserError as failure:
        return str(failure)
    found.entries["rendered"] = str(target)
    if show:
        what = "rendered, without sound" if predictor.key == "video" else "rendered"
        print(f"  {what}: {shown_path(target)}", flush=True)
    return None


def _plotted(
    predictor: _VideoPredictor | _ImagePredictor,
    path: Path,
    target: Path,
    found: _Found,
    plot: Plot,
    *,
    show: bool,
) -> str | None:
    """Draw the scores over time, note the actions and where; return what went wrong."""
    from video_snl.render.timeline import Timeline, draw_timeline, find_actions  # and matplotlib

    assert found.scores is not None
    names, windows = predictor.task.class_names, found.entries["windows"]
    starts, ends = (np.array([each[name] for each in windows]) for name in ("start", "end"))
    timeline = Timeline(starts, ends, found.scores)
    actions = find_actions(timeline, plot.threshold)
    found.entries["actions"] = [
        {
            "start": round(action.start, 3),
            "end": round(action.end, 3),
            "class": names[action.label],
            "score": round(action.score, 6),
        }
        for action in actions
    ]
    if show:
        print(f"  actions of a score of {plot.threshold:.0%} or more: {len(actions) or 'none'}")
        for action in actions:
            said = f"{printable(names[action.label])} {action.score:.2%}"
            print(f"{action.start:9.2f} s - {action.end:9.2f} s  {said}")
    try:
        draw_timeline(timeline, actions, names, target, title=path.name, threshold=plot.threshold)
    except UserError as failure:
        return str(failure)
    found.entries["plot"] = str(target)
    if show:
        print(f"  plot: {shown_path(target)}", flush=True)
    return None


def _lines(part: dict[str, Any]) -> str:
    guesses = [guess | {"class": printable(guess["class"])} for guess in part["predictions"]]
    if "start" in part:  # a window is one line
        words = [f"{guess['class']} {guess['score']:.2%}" for guess in guesses]
        return "  ".join([f"{part['start']:9.2f} s - {part['end']:9.2f} s", *words])
    width = max(len(guess["class"]) for guess in guesses)
    return "\n".join(f"  {guess['class']:{width}}  {guess['score']:7.2%}" for guess in guesses)
