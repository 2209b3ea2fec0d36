"""Lay the site's sources out: README and docs/ as they are, and what is made from the code.

python scripts/documentation/pages.py FOLDER
"""

from __future__ import annotations

import shutil
import sys
from fnmatch import fnmatch
from pathlib import Path

from command_pages import command_pages

REPOSITORY = Path(__file__).resolve().parents[2]

# The groups of the navigation: pages, or patterns of pages. Pages that are not there are left out,
# and those that no pattern names stand under "More", so that a new page needs no line here.
GROUPS: dict[str, tuple[str, ...]] = {
    "Start": ("index", "docs/install", "docs/python"),
    "Blocks": ("docs/blocks", "docs/insert", "docs/add-a-block", "docs/extend"),
    "Videos": (
        "docs/own-videos",
        "docs/streams",
        "docs/ucf101",
        "docs/reading-videos",
        "docs/pretrained",
        "docs/features",
        "docs/fine-tuning",
    ),
    "Images": ("docs/images", "docs/images-*", "docs/paper-tables"),
    "Re-identification": ("docs/reid", "docs/reid/*", "docs/galleries"),
    "Looking inside": ("docs/explain", "docs/spectrum", "docs/serve"),
    "Deployment": ("docs/export", "docs/deployment"),
    "Reference": (
        "commands/*",
        "reference/*",
        "docs/results",
        "docs/benchmarks",
        "docs/scale",
        "docs/cluster",
        "docs/architecture",
        "docs/internals",
    ),
    "More": ("docs/*", "CHANGELOG", "CONTRIBUTING", "SECURITY"),
}

# Classes that a package exports, and that another page of the reference shows where they live: a
# name of two targets cannot be linked.
ELSEWHERE: dict[str, tuple[str, ...]] = {
    "video_snl": ("Prediction", "Predictor", "Run", "UserError", "VideoDataset"),
}

# Of each page of the reference: its title, and the modules whose docstrings it shows.
REFERENCE: dict[str, tuple[str, tuple[str, ...]]] = {
    "video_snl": ("The package video_snl", ("video_snl",)),
    "python": (
        "Networks, trainings and datasets from Python",
        (
            "video_snl.commands.predictor",
            "video_snl.cli.python",
            "video_snl.commands.run_results",
            "video_snl.data.video.map_dataset",
            "reid.retrieval.extractor",
            "reid.retrieval.gallery",
            "reid.galleries.places",
            "reid.galleries.store",
            "reid.galleries.entries",
            "reid.galleries.searching",
        ),
    ),
    "blocks": (
        "Blocks and affinities",
        (
            "video_snl.blocks.block",
            "video_snl.blocks.operators",
            "video_snl.blocks.kernels",
            "video_snl.blocks.filters",
            "video_snl.blocks.zoo",
            "video_snl.blocks.gates",
            "video_snl.analysis.spectrum.filters",
            "video_snl.analysis.spectrum.filter_plots",
        ),
    ),
    "networks": (
        "Networks and weights",
        (
            "video_snl.blocks.insertion",
            "video_snl.blocks.layouts",
            "video_snl.models.i3d",
            "video_snl.models.x3d",
            "video_snl.models.slowfast",
            "video_snl.models.mvit",
            "video_snl.models.torchvision_video",
            "video_snl.models.video",
            "video_snl.models.image",
            "video_snl.models.fcn",
            "video_snl.models.weights.loading",
            "video_snl.models.weights.fetching",
            "video_snl.runs.pretrained",
            "video_snl.models.released.networks",
        ),
    ),
    "data": (
        "Videos and images",
        (
            "video_snl.data.decoding.readers",
            "video_snl.data.video.clip_sampling",
            "video_snl.data.video.catalog",
            "video_snl.data.video.dataset",
            "video_snl.data.transforms.geometry",
            "video_snl.data.synthetic.sample",
            "video_snl.data.loading.loader",
            "video_snl.data.loading.samplers",
            "video_snl.data.workers.pool",
            "video_snl.data.image.catalog",
            "video_snl.data.image.loader",
            "video_snl.data.transforms.image",
        ),
    ),
    "files": (
        "Files and formats",
        (
            "video_snl.utils.media",
            "video_snl.utils.files",
            "video_snl.utils.archives",
            "video_snl.utils.finite",
            "video_snl.data.image.reading",
            "video_snl.data.duplicates",
            "video_snl.data.decoding.opening",
            "video_snl.data.decoding.pyav",
        ),
    ),
    "engine": (
        "Training and trained networks",
        (
            "video_snl.runs.trained",
            "video_snl.engine.train",
            "video_snl.commands.evaluate",
            "video_snl.commands.predict",
            "video_snl.commands.view_scores",
            "video_snl.commands.features",
            "video_snl.commands.probe",
            "video_snl.commands.describe",
            "video_snl.commands.check",
            "video_snl.commands.prepare",
            "video_snl.runs.run",
            "video_snl.runs.features",
            "video_snl.runs.feature_file",
            "video_snl.tasks.action",
            "video_snl.tasks.images",
            "video_snl.errors",
        ),
    ),
    "explain": (
        "What blocks look at",
        (
            "video_snl.analysis.explain.structure",
            "video_snl.analysis.model_input",
            "video_snl.analysis.explain.maps",
            "video_snl.analysis.explain.rows",
            "video_snl.analysis.explain.page",
            "video_snl.analysis.explain.figure3",
            "video_snl.analysis.explain.run",
        ),
    ),
    "spectra": (
        "Spectra of trained blocks",
        (
            "video_snl.analysis.spectrum.measure",
            "video_snl.analysis.spectrum.report",
        ),
    ),
    "export": (
        "Networks as files",
        (
            "video_snl.export.command",
            "video_snl.export.graph",
            "video_snl.export.inputs",
            "video_snl.export.formats",
            "video_snl.export.checking",
            "video_snl.export.networks",
            "video_snl.commands.publish",
            "video_snl.runs.published",
        ),
    ),
    "render": (
        "Predictions drawn on videos and images",
        (
            "video_snl.render.fonts",
            "video_snl.render.image",
            "video_snl.render.video",
        ),
    ),
    "serve": (
        "Networks as web pages",
        (
            "video_snl.serve.service",
            "video_snl.serve.app",
            "video_snl.serve.jobs",
            "video_snl.serve.uploads",
            "video_snl.serve.server",
        ),
    ),
    "tables": (
        "Tables of the paper",
        (
            "video_snl.tables.cells",
            "video_snl.tables.paper",
            "video_snl.tables.settings",
            "video_snl.tables.run",
            "video_snl.tables.store",
            "video_snl.tables.report",
        ),
    ),
    "configurations": (
        "Configurations",
        (
            "video_snl.config.base",
            "video_snl.config.video",
            "video_snl.config.image",
            "reid.config",
        ),
    ),
    "reid": (
        "The package reid",
        (
            "reid",
            "reid.models.network",
            "reid.trained",
            "reid.data.tracklet_folders",
            "reid.retrieval.features",
            "reid.retrieval.index",
            "reid.retrieval.calibration",
            "reid.metrics.open_set",
            "reid.metrics.rerank",
            "reid.models.losses",
            "reid.operations",
            "reid.task_spec",
            "reid.apps.serve",
        ),
    ),
}


def main(folder: Path) -> None:
    """Make the sources of the site in ``folder``; what it held before goes."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(REPOSITORY / "docs", folder / "docs")
    for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE", "CITATION.cff"):
        shutil.copy(REPOSITORY / name, folder)
    for name, text in command_pages().items():
        _write(folder / "commands" / f"{name}.md", text)
    for name, (title, modules) in REFERENCE.items():
        _write(folder / "reference" / f"{name}.rst", _reference(title, modules))
    home = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    _write(folder / "index.md", home)
    pages = sorted(
        path.relative_to(folder).with_suffix("").as_posix()
        for path in folder.rglob("*")
        if path.suffix in (".md", ".rst")
    )
    _write(folder / "index.md", home + _navigation(pages))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _reference(title: str, modules: tuple[str, ...]) -> str:
    """Write a page of docstrings, with a section for each module where there are several."""
    parts = [_heading(title, "=")]
    for module in modules:
        if len(modules) > 1:
            parts.append(_heading(module, "-"))
        twice = ", ".join(ELSEWHERE.get(module, ()))
        left_out = f"   :exclude-members: {twice}\n" if twice else ""
        parts.append(f".. automodule:: {module}\n   :members:\n{left_out}")
    return "\n".join(parts)


def _heading(text: str, underline: str) -> str:
    return f"{text}\n{underline * len(text)}\n"


def _navigation(pages: list[str]) -> str:
    """Return hidden lists of pages, one for each group."""
    parts = []
    for group, members in grouped(pages).items():
        entries = "\n".join("self" if page == "index" else page for page in members)
        parts.append(f"```{{toctree}}\n:hidden:\n:caption: {group}\n\n{entries}\n```\n")
    return "\n" + "\n".join(parts)


def grouped(pages: list[str]) -> dict[str, list[str]]:
    """Put every page in the first group that names it, in the group's order."""
    left, groups = list(pages), {}
    for group, patterns in GROUPS.items():
        found = [page for pattern in patterns for page in left if fnmatch(page, pattern)]
        members = list(dict.fromkeys(found))
        left = [page for page in left if page not in members]
        if members:
            groups[group] = members
    return groups


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
