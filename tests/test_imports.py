"""Modules that importing the package loads, and the two forms of importing a block."""

from __future__ import annotations

import subprocess
import sys

import pytest

import video_snl

FROM = "from video_snl import SNL3d"
MODULE = "import video_snl.SNL3d"


def run(*lines: str) -> str:
    """Return the output of a fresh interpreter."""
    result = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.mark.parametrize(
    "order",
    [(MODULE, MODULE, FROM), pytest.param((FROM, MODULE), marks=pytest.mark.slow)],
)
def test_both_forms_give_the_class_in_either_order(order: tuple[str, ...]) -> None:
    printed = run(
        order[0],
        "import sys; assert 'torch' in sys.modules",
        *order[1:],
        "assert SNL3d is video_snl.SNL3d",
        "assert isinstance(SNL3d, type)",
        "print(video_snl.SNL3d(64).in_channels, SNL3d.__module__)",
    )
    assert printed == "64 video_snl.blocks.zoo"


@pytest.mark.parametrize(
    "module", ["video_snl", "video_snl.config.video", "video_snl.config.image"]
)
def test_no_torch_is_loaded(module: str) -> None:
    loaded = run("import sys", f"import {module}", "print(*sorted(sys.modules))").split()
    assert module in loaded
    assert not {"torch", "torchvision", "pytorchvideo", "lightning"} & set(loaded)


def test_every_public_name_is_there() -> None:
    for name in video_snl.__all__:
        assert getattr(video_snl, name).__name__ == name
        assert name in dir(video_snl)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'video_snl' has no attribute 'SNL4d'"):
        _ = video_snl.SNL4d
    with pytest.raises(ImportError, match="SNL4d"):
        from video_snl import SNL4d  # noqa: F401


def test_processes_that_decode_import_no_torchvision() -> None:
    """torchvision takes longer to import than torch, and the first batch would wait for it."""
    loaded = run(
        "import sys",
        "import reid.data.loading, video_snl.data.video.dataset",
        "print(*sorted(sys.modules))",
    ).split()
    assert "video_snl.data.video.dataset" in loaded
    assert not {"torchvision", "torch._dynamo", "lightning"} & set(loaded)
