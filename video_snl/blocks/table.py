"""The table of all blocks, for docs/blocks.md: made from the code, so that it cannot fall behind.

python -m video_snl.blocks.table                   prints it
python -m video_snl.blocks.table docs/blocks.md    puts it between the marks in that file
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import torch

from video_snl.blocks.block import NonlocalBlock
from video_snl.blocks.zoo import BLOCKS, GATES, make_block

__all__ = ["BEGIN", "END", "blocks_table", "with_table"]

BEGIN = "<!-- the table of blocks: python -m video_snl.blocks.table docs/blocks.md -->"
END = "<!-- end of the table of blocks -->"


class Entry(NamedTuple):
    """What the code does not say of itself in so few words."""

    added: str  # what is added to X, before the norm
    kernel: str
    cost: str  # multiply-adds of the products with A at N positions, low-rank order
    paper: str


ENTRIES: dict[str, Entry] = {
    "nl": Entry("A Z W", "exp <theta, phi>", "2 N² Cs", "1711.07971"),
    "ns": Entry("Z W - A Z W", "exp <theta, phi>", "2 N² Cs", "1806.00681"),
    "a2": Entry("A Z W", "softmax(theta) softmax(phi)ᵀ", "2 N Cs²", "1810.11579"),
    "cgnl": Entry(
        "A Z W, grouped", "Taylor series of an RBF, N Cs vertices", "6 N Cs", "1810.13125"
    ),
    "cc": Entry("A X W", "exp <theta, phi> on lines of the grid", "N (T+H+W) C", "1811.11721"),
    "dnl": Entry("A Z W", "whitened softmax + unary softmax", "2 N² Cs", "2006.06668"),
    "snl": Entry("Z W1 + A Z W2", "<relu theta, relu phi>", "4 N Cs²", "2108.02451"),
    "snl_a1": Entry("A Z W", "<relu theta, relu phi>", "4 N Cs²", "2108.02451"),
    "snl_a2": Entry("Z W1 + A Z W2", "<relu theta, relu phi>", "2 N Cs²", "2108.02451"),
    "gsnl": Entry("sum of Aᵏ Z Wk, k ≤ K", "<relu theta, relu phi>", "4 K N Cs²", "2108.02451"),
    "cayley": Entry(
        "Z W0 + 2 Re sum of Cʲ Z Wj", "<relu theta, relu phi>", "O(N Cs² + Cs³)", "1705.07664"
    ),
    "se": Entry("X (sigmoid(MLP(mean X)) - 1)", "-", "-", "1709.01507"),
    "ge": Entry("X (sigmoid(gather X) - 1)", "-", "-", "1810.12348"),
    "gc": Entry("MLP(sum of softmax(X w) X)", "-", "N C", "1904.11492"),
    "cgd": Entry("X tanh(...)", "-", "-", "1907.09665"),
}


def blocks_table() -> str:
    """Markdown. Parameters are those at C = 1024, Cs = C / 2 (``cc``: C / 8), as built."""
    head = "| block | adds to X | kernel M | normalisation | parameters | cost of A | arXiv |"
    return "\n".join([head, "|---|---|---|---|---|---|---|", *map(_row, (*BLOCKS, *GATES))])


def _row(name: str) -> str:
    entry = ENTRIES[name]
    with torch.device("meta"):
        block = make_block(name, 1024)
    parameters = f"{sum(parameter.numel() for parameter in block.parameters()):,}"
    paper = f"[{entry.paper}](https://arxiv.org/abs/{entry.paper})"
    cells = [f"`{name}`", entry.added, entry.kernel, _normalization(block), parameters]
    return "| " + " | ".join([*cells, entry.cost, paper]) + " |"


def _normalization(block: torch.nn.Module) -> str:
    if not isinstance(block, NonlocalBlock):
        return "-"
    recipe = block.recipe
    if recipe.normalization is None:
        return "by the kernel"
    return ("M + Mᵀ, " if recipe.symmetric else "") + recipe.normalization


def with_table(text: str) -> str:
    """The text with the table between the marks.

    Raises:
        ValueError: where the marks are missing.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the text lacks the marks {BEGIN!r} and {END!r}.")
    return f"{before}{BEGIN}\n{blocks_table()}\n{END}{after}"


if __name__ == "__main__":
    if len(sys.argv) == 1:
        print(blocks_table())
    for name in sys.argv[1:]:
        file = Path(name)
        file.write_text(with_table(file.read_text(encoding="utf-8")), encoding="utf-8")
