"""The documentation's examples are run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from tests import naive
from video_snl.blocks import NonlocalBlock

DOCS = Path(__file__).resolve().parent.parent / "docs"


def test_adding_a_block() -> None:
    text = (DOCS / "add-a-block.md").read_text(encoding="utf-8")
    row, use = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len([line for line in row.splitlines() if line]) <= 15
    names: dict[str, Any] = {"__name__": __name__}
    exec(compile(row + use, "add-a-block.md", "exec"), names)  # noqa: S102
    block = names["TwoHop1d"](8, 4, zero_init=False).double().eval()
    assert isinstance(block, NonlocalBlock)
    x = torch.randn(2, 8, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rows = x.mT
    theta, phi, z = (naive.linear(w, rows) for w in block.project.weight.split(4))
    matrix = naive.normalized(naive.pairwise(theta.clamp(min=0), phi.clamp(min=0)), "rw")
    steps = naive.product(matrix, naive.product(matrix, z))
    terms = naive.linear(block.stage[0].combine.weight, steps)
    norm = block.stage[0].norm
    assert_close(block(x), x + (terms / (1 + norm.eps) ** 0.5).mT)
    clip = torch.randn(1, 3, 4, 32, 32)
    assert names["network"].eval()(clip).shape == (1, 400)
    with pytest.raises(ValueError, match="TwoHop3d in a network of 2 axes, not 3"):
        names["TwoHop3d"].factory()(8, ndim=2)
