"""``video-snl describe``: layers, blocks, parameters and multiply-adds of a network."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from fvcore.nn import FlopCountAnalysis
from torch import Tensor, nn

from video_snl.blocks import NonlocalBlock
from video_snl.blocks.insertion import inserted_blocks
from video_snl.config.video import Experiment
from video_snl.data.video.catalog import class_count
from video_snl.models.video import build_model
from video_snl.utils.counts import counts
from video_snl.utils.json_text import to_json

__all__ = ["describe", "description", "layer_rows", "table"]

Layers = Sequence[tuple[str, nn.Module]]

# Products with the affinity: fvcore would count some of them, the paper's tables none. Their cost
# is taken from each operator's own formula.
_AFFINITY_PRODUCTS = ("aten::matmul", "aten::bmm", "aten::mm", "aten::einsum")


def describe(experiment: Experiment, *, as_json: bool) -> int:
    """Print the network of ``experiment``."""
    config = experiment.model
    classes = config.num_classes or class_count(experiment.data)
    # Its sizes are the same whatever weights it starts from.
    config.weights = None
    model, _ = build_model(config, classes)
    model.eval()
    data = experiment.data
    clip = (3, data.clip_frames, data.crop, data.crop)
    facts = description(model, clip)
    if as_json:
        print(to_json(facts, indent=2))
    else:
        heading = (
            f"{config.backbone}, {counts(classes, 'class')}; clip (channels, T, H, W) = {clip}"
        )
        print(table(heading, layer_rows(model, _layer_names(model), clip), facts))
    return 0


def description(
    model: nn.Module, clip: tuple[int, ...], blocks: Mapping[str, nn.Module] | None = None
) -> dict[str, Any]:
    """Parameters and multiply-adds of one clip (3, T, H, W) or image, in all and of each block.

    ``multiply_adds`` counts convolutions, linear layers and norms, as fvcore does and the paper's
    tables do; ``multiply_adds_with_affinity`` adds the products with the affinities, and
    ``multiply_adds_separate`` counts the weights of a block once for every A^k Z (NS, as printed).

    Args:
        blocks: by position; default those inserted into ``model``.
    """
    positions = dict(inserted_blocks(model) if blocks is None else blocks)
    names = {module: name for name, module in model.named_modules()}
    example = torch.zeros(1, *clip)
    affinity, separate = _affinity_multiply_adds(model, positions, example)
    counted = _count(model, example)
    by_module = counted.by_module()
    described = [
        {
            "name": type(block).__name__,
            "position": position,
            "parameters": _parameters(block),
            "multiply_adds": int(by_module[names[block]]),
            "multiply_adds_with_affinity": int(by_module[names[block]]) + affinity[position],
            "multiply_adds_separate": int(by_module[names[block]]) + separate[position],
        }
        for position, block in positions.items()
    ]
    total = int(counted.total())
    return {
        "parameters": _parameters(model),
        "multiply_adds": total,
        "multiply_adds_with_affinity": total + sum(affinity.values()),
        "clip": list(clip),
        "blocks": described,
    }


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _count(model: nn.Module, example: Tensor) -> FlopCountAnalysis:
    logging.getLogger("fvcore").setLevel(logging.ERROR)
    counted = FlopCountAnalysis(model, example)
    counted.set_op_handle(**dict.fromkeys(_AFFINITY_PRODUCTS, _not_counted))
    counted.set_op_handle("aten::gru", _gru)
    return counted.unsupported_ops_warnings(False).uncalled_modules_warnings(False)


def _not_counted(inputs: list[Any], outputs: list[Any]) -> int:
    return 0


def _gru(inputs: list[Any], outputs: list[Any]) -> int:
    """Of a GRU's matrices, which fvcore leaves out: 3 H (I + H) for every step of every sample."""
    (_, steps, into), (*_, hidden) = (value.type().sizes() for value in (inputs[0], outputs[0]))
    return steps * 3 * hidden * (into + hidden)


def _affinity_multiply_adds(
    model: nn.Module, positions: dict[str, nn.Module], example: Tensor
) -> tuple[dict[str, int], dict[str, int]]:
    """Of the products with A, and of weights not fused, by position, from one pass."""
    found, separate = dict.fromkeys(positions, 0), dict.fromkeys(positions, 0)

    def note(position: str, block: NonlocalBlock, x: Tensor) -> None:
        found[position] = block.affinity_multiply_adds(x)
        separate[position] = block.separate_multiply_adds(x[0, 0].numel())

    hooks = [
        block.register_forward_pre_hook(lambda b, args, at=position: note(at, b, args[0]))
        for position, block in positions.items()
        if isinstance(block, NonlocalBlock)
    ]
    try:
        with torch.inference_mode():
            model(example)
    finally:
        for hook in hooks:
            hook.remove()
    return found, separate


def table(heading: str, rows: Sequence[str], facts: Mapping[str, Any]) -> str:
    """A description for people: its layers (:func:`layer_rows`), blocks and sums."""
    axes = "C, T, H, W" if len(facts["clip"]) == 4 else "C, H, W"
    lines = [
        heading,
        "",
        f"{'layers':28}{f'output ({axes})':24}{'parameters':>12}",
        *rows,
        "",
    ]
    for block in facts["blocks"]:
        lines.append(
            f"{block['name']} {block['position']}: {block['parameters']:,} parameters, "
            f"{block['multiply_adds'] / 1e9:.4f} G multiply-adds "
            f"({block['multiply_adds_with_affinity'] / 1e9:.4f} G with the affinity product)"
        )
        if block["multiply_adds_separate"] != block["multiply_adds"]:
            lines.append(
                f"  {block['multiply_adds_separate'] / 1e9:.4f} G with W applied to Z and to A Z "
                "by itself, as the paper counts"
            )
    if not facts["blocks"]:
        lines.append("no blocks inserted")
    lines += [
        "",
        f"parameters                            {facts['parameters']:,}"
        f"  ({facts['parameters'] / 1e6:.2f} M)",
        f"multiply-adds                         {facts['multiply_adds'] / 1e9:.4f} G",
        f"multiply-adds with affinity product   {facts['multiply_adds_with_affinity'] / 1e9:.4f} G",
    ]
    return "\n".join(lines)


def layer_rows(model: nn.Module, layers: Layers, clip: tuple[int, ...]) -> list[str]:
    """A row for each of the named layers: units in a stage, shape of the output, parameters."""
    rows: list[str] = []

    def row(module: nn.Module, _: Any, output: Tensor, name: str) -> None:
        units = len(getattr(module, "res_blocks", []))
        title = f"{name} ({units} units)" if units else name
        shape = str(tuple(output.shape[1:]))
        rows.append(f"{title:28}{shape:24}{_parameters(module):>12,}")

    hooks = [
        layer.register_forward_hook(lambda m, i, o, at=name: row(m, i, o, at))
        for name, layer in layers
    ]
    with torch.inference_mode():
        model(torch.zeros(1, *clip))
    for hook in hooks:
        hook.remove()
    return rows


def _layer_names(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Stem, ``res2`` ... ``res5`` (and the pooling that some networks have between), head."""
    first, *between, last = model.get_submodule("blocks").children()
    named, stage = [("stem", first)], 2
    for layer in between:
        if hasattr(layer, "res_blocks"):
            named.append((f"res{stage}", layer))
            stage += 1
        else:
            named.append((type(layer).__name__, layer))
    return [*named, ("head", last)]
