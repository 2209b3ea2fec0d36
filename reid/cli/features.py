"""The commands that use a trained network or look at files. Without torch.

``extract`` and ``search`` work on features, ``explain``, ``spectrum`` and ``serve`` show what the
blocks do, ``check`` opens the files of a dataset, ``publish`` writes a folder for a model hub.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal

from reid.cli.common import GalleryMetric, Threshold, running
from reid.cli.evaluate import PretrainedReid, TestFrames, check_network, test_frames
from reid.config import ReidDataConfig
from reid.data.datasets.catalog import DatasetName
from reid.data.tracklet_folders import Layout
from reid.task_spec import REID
from video_snl.cli.data import cluster_of
from video_snl.cli.explain import ExplainAny, run_explain
from video_snl.cli.export import ExportAny, run_export
from video_snl.cli.publish import publish_options
from video_snl.cli.serve import ServeAny, VideoLength, limits_of
from video_snl.cli.spectrum import SpectrumAny, run_spectrum
from video_snl.config.options import (
    Accelerator,
    Checkpoint,
    Json,
    MaxPixels,
    NetworkEngine,
    Workers,
    option,
    option_group,
    options_of,
    positional,
)
from video_snl.utils.quick_imports import quick_imports

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from reid.trained import TrainedReid

__all__ = [
    "CALIBRATE",
    "CHECK",
    "EXPLAIN",
    "EXPORT",
    "EXTRACT",
    "SEARCH",
    "SERVE",
    "Calibrate",
    "Check",
    "Explain",
    "Export",
    "Extract",
    "Search",
    "Serve",
    "Spectrum",
    "calibrate",
    "check",
    "explain",
    "export",
    "extract",
    "publish",
    "search",
    "serve",
    "spectrum",
]

EXTRACT = """Write the features of tracklets to a file.
A tracklet is a folder of cropped images of one person, or a video of such. Of a folder, all folders
of images and all videos below it are taken; --layout decides where that may mean two things."""
SEARCH = "Find the gallery tracklets that are nearest to some queries."
CALIBRATE = """Measure how well distances tell who is not in a gallery, and choose a threshold.
On features with names of persons and cameras (reid extract --layout folder), of people who are
neither trained on nor tested on. Prints the area under the ROC curve, TAR at FAR, and DIR at
false-alarm rates; rates for which there are too few searches are not measurable."""
EXPLAIN = """Show what the blocks of a trained network look at in a tracklet.
Writes a folder with a page (index.html) on which any position can be picked, images in the layout
of the paper's Figure 3, and all maps as numbers."""
SERVE = """Search for people, and see what the blocks look at, on a local web page.
Upload frames of one person, or a video or ZIP file of such. The page needs no network, and is seen
on this machine alone unless --host says otherwise. Needs the extra packages of video-snl[serve]."""
EXPORT = """Write a trained network as a .pt2 (torch.export) or ONNX file that needs nothing else.
The file takes the frames of tracklets, uint8, and how many there are of each, and returns features
of norm 1, those of reid extract. It is compared with the network before it is there."""
CHECK = """Open every image of a dataset and list what is missing or wrong.
Exit code 0: all intact; 1: something was found; 2: bad input."""


@option_group
class _Tracklets:
    """Layout of the tracklets.

    Args:
        layout: What a tracklet is. auto: every folder with images in it and every video; what may
            mean two things is refused (none is the older name). folder: the same, in
            <person>/<camera>/<tracklet>, whose names are kept. tracklets: every folder with images,
            also one with tracklets below it. leaves: folders with no tracklets below them, other
            images are passed over. images: every image. videos: every video. market: every image,
            of the person and camera in its name (0002_c1s1_000451_03.jpg). mars: images by person,
            camera and tracklet in their names (0001C1T0001F001.jpg).
    """

    layout: Layout = "auto"


@option_group
class Extract(
    Accelerator, NetworkEngine, MaxPixels, TestFrames, _Tracklets, PretrainedReid, Checkpoint
):
    """Options of ``extract``.

    Args:
        paths: Tracklets, or folders of them.
        output: The feature file (parquet) to write.
        num_workers: Processes that read; default as in training. With --engine ray, tasks at once;
            default as many as there is room for.
    """

    paths: list[str] = positional("FOLDER|VIDEO", nargs="+")
    output: str = option(short="-o", required=True, metavar="FILE")
    num_workers: int | None = None


@option_group
class Search(Json, Threshold, MaxPixels, GalleryMetric, PretrainedReid, Checkpoint, _Tracklets):
    """Options of ``search``.

    Args:
        queries: Tracklets to search for, folders of them, or feature files (.parquet) of reid
            extract.
        gallery: Feature file of reid extract, or gallery of reid gallery, in a folder or a
            database; of the queries, as many frames are looked at (its --test_frames).
        index: exact, or an approximate index of a feature file, whose recall is then printed.
            Default: exact; of a gallery of reid gallery, its own index.
        top: How many tracklets to list.
        page: Write an HTML page with film strips, too; default none.
    """

    queries: list[str] = positional("FOLDER|VIDEO|FILE", nargs="+")
    gallery: str = option(required=True, metavar="FILE|GALLERY")
    index: Literal["exact", "ivf", "hnsw"] | None = None
    top: int = 10
    page: str | None = option(metavar="FILE")


@option_group
class Calibrate(Json, GalleryMetric):
    """Options of ``calibrate``.

    Args:
        queries: Feature files (.parquet) of reid extract, or galleries of reid gallery, with names
            of persons and cameras.
        gallery: Feature file or gallery to search in, of the same network.
        output: Calibration to write, for --calibrate of search, gallery search, identify and serve;
            default none: only measure.
        false_alarms: Share of the searches for people who are not in the gallery that may find
            somebody; the threshold is the largest with at most this share.
        cameras: cross: the query's own person under the query's own camera does not count; ignore:
            only the query itself does not.
        check: Measure the threshold of this calibration, and choose none; default none.
        page: Write an HTML page with the distributions and curves; default none.
    """

    queries: list[str] = positional("FILE|GALLERY", nargs="+")
    gallery: str = option(required=True, metavar="FILE|GALLERY")
    output: str | None = option(short="-o", metavar="FILE")
    false_alarms: float = 0.01
    cameras: Literal["cross", "ignore"] = "cross"
    check: str | None = option(metavar="FILE")
    page: str | None = option(metavar="FILE")


@option_group
class Explain(_Tracklets, ExplainAny):
    """Options of ``explain``.

    Args:
        source: A tracklet: a folder of frames, or a video.
    """

    source: str = positional("FOLDER|VIDEO")


@option_group
class Spectrum(_Tracklets, SpectrumAny):
    """Options of ``spectrum``.

    Args:
        paths: Tracklets: folders of frames, videos, or folders of those. Default: some of the test
            list of the run.
    """

    paths: list[str] = positional("FILE|DIR", nargs="*")


@option_group
class Serve(Threshold, VideoLength, PretrainedReid, ServeAny):
    """Options of ``serve``.

    Args:
        gallery: Feature file of reid extract to search in, or gallery of reid gallery, in a folder
            or a database; default none: the page only shows what the blocks look at.
        top: How many tracklets are shown, 1-20.
    """

    gallery: str | None = option(metavar="FILE|GALLERY")
    top: int = 10


@option_group
class Export(PretrainedReid, ExportAny):
    """Options of ``export``.

    Args:
        input: Compare the results for this tracklet, too; default none.
    """

    input: str | None = option(metavar="FOLDER|VIDEO")


@option_group
class Check(Json, Workers):
    """Options of ``check``.

    Args:
        dataset: Name of the dataset (docs/reid/datasets.md).
        root: Folder of the dataset; default for the sample dataset: the cache.
        split: Number of the split, from 0.
        deadline: Seconds that a tracklet may take before it is given up.
    """

    dataset: DatasetName = "sample"
    root: str | None = None
    split: int = 0


def extract(arguments: Namespace) -> int:
    options = options_of(Extract, arguments)
    check_network(options.checkpoint, options.pretrained, options.weights)
    cluster = cluster_of(options, options.num_workers, options.accelerator)
    with quick_imports():
        from reid.retrieval.extract import extract

    return extract(
        options.paths,
        checkpoint=options.checkpoint,
        published=options.pretrained,
        weights=options.weights,
        output=options.output,
        layout=options.layout,
        test_frames=test_frames(options.test_frames),
        num_workers=options.num_workers,
        accelerator=options.accelerator,
        max_pixels=options.max_pixels,
        cluster=cluster,
    )


search = running(
    Search,
    "reid.retrieval.searching.run_search",
    lambda given: check_network(given.checkpoint, given.pretrained, given.weights),
)
calibrate = running(Calibrate, "reid.retrieval.calibrating.run_calibrate")


def explain(arguments: Namespace) -> int:
    options = options_of(Explain, arguments)
    from video_snl.tasks.operations import Reading

    return run_explain(options, options.source, REID, Reading(layout=options.layout))


def spectrum(arguments: Namespace) -> int:
    options = options_of(Spectrum, arguments)
    from video_snl.tasks.operations import Reading

    return run_spectrum(options, options.paths, REID, Reading(layout=options.layout))


def serve(arguments: Namespace) -> int:
    options = options_of(Serve, arguments)
    check_network(options.checkpoint, options.pretrained, options.weights)
    from reid.apps.serve import serve_people

    serve_people(
        partial(_find_network, options),
        gallery=options.gallery,
        top=options.top,
        threshold=options.threshold,
        calibration=options.calibrate,
        host=options.host,
        port=options.port,
        limits=limits_of(options, options.max_seconds),
        accelerator=options.accelerator,
    )


def check(arguments: Namespace) -> int:
    options = options_of(Check, arguments)
    options.check()
    from reid.data.check import check

    config = ReidDataConfig(
        dataset=options.dataset,
        root=options.root,
        split=options.split,
        deadline=options.deadline,
        max_pixels=options.max_pixels,
    )
    return check(config, as_json=options.json, num_workers=options.num_workers)


def export(arguments: Namespace) -> int:
    options = options_of(Export, arguments)
    check_network(options.checkpoint, options.pretrained, options.weights)
    find = partial(_find_network, options)
    return run_export(options, find, dynamic="batch,frames", preprocessing=True)


def _find_network(options: Serve | Export) -> TrainedReid:
    """Load the published network, or that of the checkpoint."""
    from reid.trained import TrainedReid, find_network, load_trained

    found = find_network(options.checkpoint, options.pretrained, options.weights)
    return found if isinstance(found, TrainedReid) else load_trained(found)


def publish(arguments: Namespace) -> int:
    options = publish_options(arguments)
    from reid.runs import find_checkpoint
    from video_snl.commands.publish import publish
    from video_snl.runs.trained import load_trained

    trained = load_trained(find_checkpoint(options.checkpoint), REID)
    return publish(trained, output=options.output, licence=options.licence, name=options.name)
