"""``describe``: layers, blocks, parameters and multiply-adds of a network of any kind of task."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import prod
from typing import Any

import torch
from fvcore.nn import FlopCountAnalysis
from torch import Tensor, nn

from video_snl.blocks import NonlocalBlock
from video_snl.blocks.insertion import block_places, in_stages, inserted_blocks
from video_snl.config.image import ImageDataConfig, ImageExperiment, ImageModelConfig
from video_snl.config.task_spec import IMAGE, AnyExperiment, TaskSpec
from video_snl.errors import UserError
from video_snl.tasks.operations import AnyOperations, without_weights
from video_snl.utils.json_text import to_json

__all__ = [
    "describe",
    "described",
    "description",
    "description_text",
    "image_description",
    "image_table",
    "network_facts",
]

Layers = Sequence[tuple[str, nn.Module]]

# Products with the affinity: fvcore would count some of them, the paper's tables none. Their cost
# is taken from each operator's own formula.
_AFFINITY_PRODUCTS = ("aten::matmul", "aten::bmm", "aten::mm", "aten::einsum")


def describe(experiment: AnyExperiment, spec: TaskSpec, *, as_json: bool) -> int:
    """Print layers, blocks, parameters and multiply-adds of the network of ``experiment``.

    Raises:
        UserError: The network cannot be built, or the number of its labels is not known.
    """
    if as_json:
        print(to_json(described(experiment, spec), indent=2))
    else:
        print(description_text(experiment, spec))
    return 0


def described(experiment: AnyExperiment, spec: TaskSpec) -> dict[str, Any]:
    """Return what ``describe --json`` prints: :func:`description`, and the facts of the task.

    Raises:
        UserError: As for :func:`describe`.
    """
    operations = spec.make()
    model, labels = _network(operations, experiment)
    return network_facts(operations, model, operations.input_shape(experiment), labels)


def description_text(experiment: AnyExperiment, spec: TaskSpec) -> str:
    """Return what ``describe`` prints.

    Raises:
        UserError: As for :func:`describe`.
    """
    operations = spec.make()
    model, labels = _network(operations, experiment)
    shape = operations.input_shape(experiment)
    with layer_rows(operations.layers(model)) as rows:
        facts = network_facts(operations, model, shape, labels)
    return table(operations.heading(experiment, model, labels), rows, facts)


def network_facts(
    operations: AnyOperations, model: nn.Module, shape: tuple[int, ...], labels: int
) -> dict[str, Any]:
    """Describe a network in evaluation mode, for an input of ``shape``.

    An auxiliary head, which only training has, is not among the ``parameters``.

    Raises:
        UserError: The input is too small for the network.
    """
    try:
        facts = description(model.eval(), shape, operations.blocks(model))
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"the network cannot take an input of shape {shape}: give larger inputs ({reason})"
        ) from error
    facts |= operations.facts(model, labels)
    return facts | {"parameters": facts["parameters"] - facts.get("auxiliary_parameters", 0)}


def image_description(
    config: ImageModelConfig, num_classes: int, size: tuple[int, int]
) -> dict[str, Any]:
    """Describe a network of images of ``size`` (H, W), as ``describe --json`` does.

    Raises:
        UserError: The images are too small, or the network cannot be built.
    """
    return described(_image_experiment(config, num_classes, size), IMAGE)


def image_table(config: ImageModelConfig, num_classes: int, size: tuple[int, int]) -> str:
    """Describe a network of images as text, with a row for each part of the network.

    Raises:
        UserError: As for :func:`image_description`.
    """
    return description_text(_image_experiment(config, num_classes, size), IMAGE)


def _image_experiment(
    config: ImageModelConfig, num_classes: int, size: tuple[int, int]
) -> ImageExperiment:
    data = ImageDataConfig(height=size[0], width=size[1])
    return ImageExperiment(data=data, model=replace(config, num_classes=num_classes))


def _network(operations: AnyOperations, experiment: AnyExperiment) -> tuple[nn.Module, int]:
    labels = operations.label_count(experiment)
    # The sizes of a network do not depend on the weights it starts from.
    model, _ = operations.build_network(without_weights(experiment), labels)
    return model.eval(), labels


def description(
    model: nn.Module, clip: tuple[int, ...], blocks: Mapping[str, nn.Module] | None = None
) -> dict[str, Any]:
    """Return parameters and multiply-adds of one clip (3, T, H, W) or image, and of each block.

    ``multiply_adds`` counts convolutions, linear layers and norms, as fvcore does and the paper's
    tables do; ``multiply_adds_with_affinity`` adds the products with the affinities, and
    ``multiply_adds_separate`` counts the weights of a block once for every A^k Z (NS, as printed).

    Args:
        blocks: by position; default those inserted into ``model``.
    """
    positions = dict(inserted_blocks(model) if blocks is None else blocks)
    names = {module: name for name, module in model.named_modules()}
    example = torch.zeros(1, *clip)
    counted = _count(model, example)
    with _input_shapes(positions) as shapes:
        by_module = counted.by_module()
    affinity, separate = _affinity_multiply_adds(positions, shapes)
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
        "places": list(block_places(model)),
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
    """Count a GRU's matrices, which fvcore leaves out: 3 H (I + H) for each step and sample."""
    (_, steps, into), (*_, hidden) = (value.type().sizes() for value in (inputs[0], outputs[0]))
    return steps * 3 * hidden * (into + hidden)


@contextmanager
def _input_shapes(positions: Mapping[str, nn.Module]) -> Iterator[dict[str, tuple[int, ...]]]:
    """Yield the shapes of what blocks take, by position, as the network is run."""
    found: dict[str, tuple[int, ...]] = {}

    def note(position: str, x: Tensor) -> None:
        found[position] = _shape(x)

    hooks = [
        block.register_forward_pre_hook(lambda _, args, at=position: note(at, args[0]))
        for position, block in positions.items()
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _affinity_multiply_adds(
    positions: Mapping[str, nn.Module], shapes: Mapping[str, tuple[int, ...]]
) -> tuple[dict[str, int], dict[str, int]]:
    """Count the products with A, and weights not fused, of blocks with inputs of these shapes."""
    found, separate = dict.fromkeys(positions, 0), dict.fromkeys(positions, 0)
    for position, shape in shapes.items():
        block = positions[position]
        if isinstance(block, NonlocalBlock):
            with torch.inference_mode():
                found[position] = block.affinity_multiply_adds(torch.zeros(shape))
            separate[position] = block.separate_multiply_adds(prod(shape[2:]))
    return found, separate


def _shape(x: Tensor) -> tuple[int, ...]:
    """Return the shape in numbers, which it is not made of where a network is traced."""
    return tuple(int(side) for side in x.shape)


def _shapes(output: Any) -> str:
    """Return the shape of an output without the batch; of each pathway where there are several."""
    tensors = [output] if isinstance(output, Tensor) else output
    return " ".join(str(_shape(x)[1:]) for x in tensors if isinstance(x, Tensor))


def table(heading: str, rows: Sequence[str], facts: Mapping[str, Any]) -> str:
    """Return a description for people: its layers (:func:`layer_rows`), blocks and sums."""
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
    if facts["places"]:
        lines.append(f"a block can stand before or after each of {in_stages(facts['places'])}")
    lines += [
        "",
        f"parameters                            {facts['parameters']:,}"
        f"  ({facts['parameters'] / 1e6:.2f} M)",
        f"multiply-adds                         {facts['multiply_adds'] / 1e9:.4f} G",
        f"multiply-adds with affinity product   {facts['multiply_adds_with_affinity'] / 1e9:.4f} G",
    ]
    auxiliary = facts.get("auxiliary_parameters")
    if auxiliary:
        lines.append(f"auxiliary head, in training only      {auxiliary:,}")
    return "\n".join(lines)


@contextmanager
def layer_rows(layers: Layers) -> Iterator[list[str]]:
    """Yield rows of a network's layers as it is run: residual units, output shape, parameters."""
    rows: list[str] = []

    def row(module: nn.Module, output: Any, name: str) -> None:
        units = len(getattr(module, "res_blocks", []))
        title = f"{name} ({units} units)" if units else name
        rows.append(f"{title:28}{_shapes(output):24}{_parameters(module):>12,}")

    hooks = [
        layer.register_forward_hook(lambda module, _, output, at=name: row(module, output, at))
        for name, layer in layers
    ]
    try:
        yield rows
    finally:
        for hook in hooks:
            hook.remove()
