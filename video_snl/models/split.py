"""Split a network into a frozen first part and the rest.

What the frozen part makes of a clip does not change in training, so that it need be computed once.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from video_snl.blocks.insertion import WithBlock
from video_snl.errors import UserError

__all__ = ["split_frozen"]


def split_frozen(model: nn.Module) -> tuple[nn.Sequential, nn.Sequential]:
    """Return the longest frozen beginning of a network, and the rest: model(x) = rest(first(x)).

    Both share their modules with the network. Frozen is what has no parameter that trains and does
    not behave otherwise in training: its BatchNorms and dropouts are in evaluation mode. An
    inserted block is a step of its own, before or after the unit at which it stands.

    Args:
        model: One of pytorchvideo's ResNets or an X3D, in training mode.

    Raises:
        UserError: It is another network, or nothing of it is frozen.
    """
    blocks = getattr(model, "blocks", None)
    plain = isinstance(blocks, nn.ModuleList) and any(hasattr(b, "res_blocks") for b in blocks)
    if not plain:
        raise UserError(
            "optimizer.cached_versions needs a network whose stages follow each other: one of "
            "pytorchvideo's ResNets or an X3D. Leave it out, or choose such a --model.backbone."
        )
    assert isinstance(blocks, nn.ModuleList)
    steps = [step for block in blocks for step in _steps(block)]
    count = next((i for i, step in enumerate(steps) if not _is_frozen(step)), len(steps))
    if not any(True for step in steps[:count] for _ in step.parameters()):
        raise UserError(
            "optimizer.cached_versions needs a frozen beginning of the network, and its first "
            "layers train: freeze them, such as --optimizer.frozen_stages '[stem, res2, res3]'."
        )
    return nn.Sequential(*steps[:count]), nn.Sequential(*steps[count:])


def _steps(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the modules that a stage applies one after the other."""
    if type(module) is WithBlock:
        inner = list(_steps(module.module))
        yield from [module.block, *inner] if module.where == "before" else [*inner, module.block]
    elif hasattr(module, "res_blocks"):
        for unit in module.res_blocks:  # type: ignore[union-attr]
            yield from _steps(unit)
    else:
        yield module


def _is_frozen(step: nn.Module) -> bool:
    if any(parameter.requires_grad for parameter in step.parameters()):
        return False
    return not any(m.training for m in step.modules() if isinstance(m, _BatchNorm | _DropoutNd))
