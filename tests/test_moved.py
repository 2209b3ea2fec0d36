"""Import paths of earlier versions lead to the modules of today, with a warning."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from video_snl.utils.moved import MOVED

PACKAGES = {
    "reid.models": ("build_network", "reid.models.network"),
    "reid.metrics": ("ranking_metrics", "reid.report.evaluation"),
    "reid.retrieval": ("evaluate_features", "reid.metrics.streaming"),
    "reid.report": ("write_report", "reid.report.report"),
    "video_snl.config": ("DataConfig", "video_snl.config.video"),
    "video_snl.cli": ("main", "video_snl.cli.main"),
    "reid.cli": ("main", "reid.cli.main"),
}
"""Modules that have become packages: a name that they had, and its home."""


@pytest.mark.parametrize("old", MOVED)
def test_the_old_path_is_the_new_module(old: str) -> None:
    sys.modules.pop(old, None)
    with pytest.warns(DeprecationWarning, match=f"{old} has moved: import {MOVED[old]}"):
        found = importlib.import_module(old)
    new = importlib.import_module(MOVED[old])
    assert found is new and new.__spec__ is not None and new.__spec__.name == MOVED[old]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_module_that_became_a_package_keeps_its_names(package: str) -> None:
    name, home = PACKAGES[package]
    found = getattr(importlib.import_module(package), name)
    assert found is getattr(importlib.import_module(home), name)
    with pytest.raises(AttributeError, match="no attribute"):
        importlib.import_module(package).no_such_name  # noqa: B018


@pytest.mark.parametrize(
    "line",
    [
        "from reid.protocols import official_gallery",
        pytest.param("import video_snl.blocks.spectral", marks=pytest.mark.slow),
    ],
)
def test_old_imports_work_as_first_lines_of_a_program(line: str) -> None:
    code = f"import warnings; warnings.simplefilter('error', ImportWarning); {line}"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
