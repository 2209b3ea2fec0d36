"""The shorter import of torch and Lightning in processes that run one command."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import gc, sys
from importlib.metadata import version
from importlib.util import find_spec
from video_snl.utils.quick_imports import import_quickly

before = list(sys.meta_path)
for _ in range(2):
    import_quickly()
assert len(sys.meta_path) == len(before) + 1
assert find_spec("torchmetrics") is not None and "torchmetrics" not in sys.modules  # only asked
import lightning.pytorch
from torchmetrics.classification import MulticlassAccuracy

print(*sorted({"matplotlib", "scipy", "torchvision", "torchmetrics"} & set(sys.modules)))
assert gc.isenabled() and gc.get_freeze_count() > 100_000
import torchmetrics
loader = type(torchmetrics.__loader__).__name__
assert type(torchmetrics.__spec__.loader).__name__ == loader == "SourceFileLoader"

import matplotlib.pyplot, scipy.signal, torchvision  # as ever

assert version("scipy") == scipy.__version__ and version("torchmetrics")
"""


def test_lightning_comes_without_what_only_unused_metrics_need() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["torchmetrics"]
