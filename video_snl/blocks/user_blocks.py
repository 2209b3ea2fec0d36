"""Blocks of a user's own: what is expected of them, how they are found, and what is wrong with one.

A block is a class, given itself or by its dotted path (``my_package.MyBlock``), which is imported.
It is tried on a small feature map when it is made, so that what does not fit is said then. So is a
function of pairs, a kernel, whose values are looked at in every call, too: what they are there
depends on the features.
"""

from __future__ import annotations

import copy
import functools
import importlib
import inspect
import math
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from video_snl.blocks.operators import autocast_dtype, can_be_read, without_autocast

__all__ = [
    "BlockProtocol",
    "check_block",
    "check_pairs",
    "import_named",
    "is_block",
    "made_by",
    "named",
    "own_block",
    "pairs_of",
    "reason_of",
]

_TRIED_ON = (4, 6, 8)  # sizes of the axes, of which none can be taken for another
# Arguments that all blocks have, with the values that ask for nothing.
_COMMON = {"inter_channels": None, "num_units": 1, "zero_init": True, "activation": None}


class BlockProtocol(Protocol):
    """What a block of a user's own is: a subclass of ``nn.Module``, Y = block(X), with Y as X.

    It is called as ``MyBlock(in_channels, ndim=ndim, **options)``, where ``options`` are those that
    the caller or ``model.block_options`` gives. ``inter_channels``, ``num_units``, ``zero_init``
    and ``activation`` (as for :class:`~video_snl.blocks.block.NonlocalBlock`) are passed if its
    constructor has them; values other than their defaults are refused if it has not.

    ``forward`` maps X to Y of the same shape and type, finite where X is, for grids of any sizes
    and any batch size, and lets a gradient reach X. ``copy.deepcopy`` copies a block (as the moving
    average of the weights does). With ``forward(x, mask=None)`` it takes part in
    :func:`~video_snl.blocks.insertion.mask_blocks`: ``mask``, boolean (B, *grid), is True where a
    position exists.

    Shapes:
        x, Y: (B, C, L), (B, C, H, W) or (B, C, T, H, W) for ndim 1, 2, 3.
    """

    def __init__(self, in_channels: int, *, ndim: int) -> None: ...

    def forward(self, x: Tensor, /) -> Tensor: ...


def named(thing: Any) -> str:
    """Return the dotted path of a class or function, for messages."""
    return f"{thing.__module__}.{thing.__qualname__}"


def is_block(thing: Any) -> bool:
    """Tell whether a thing is a class of modules."""
    return isinstance(thing, type) and issubclass(thing, nn.Module)


def import_named(path: str, option: str, expected: str, fits: Callable[[Any], bool]) -> Any:
    """Import what a dotted path names.

    Args:
        path: Module and name, such as ``my_package.MyBlock``.
        option: Name of the option whose value the path is, for messages.
        expected: Description of what it should be.
        fits: Tells whether it is that.

    Raises:
        ValueError: There is no such module or name, its import fails, or it is something else.
    """
    said = f"{option}={path!r}"
    module_name, _, name = path.rpartition(".")
    if not module_name or not all(part.isidentifier() for part in path.split(".")):
        raise ValueError(f"{said}: expected a dotted path such as my_package.MyBlock.")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
            raise ValueError(
                f"{said}: there is no module {error.name}: install its package, or put the folder "
                "that holds it on PYTHONPATH."
            ) from error
        raise ValueError(f"{said}: the module {module_name} needs {error.name}.") from error
    except (Exception, SystemExit) as error:  # whatever a module does when it is imported
        raise ValueError(f"{said}: importing {module_name} fails: {reason_of(error)}.") from error
    if not hasattr(module, name):
        near = get_close_matches(name, vars(module), 1)
        advice = f"; the nearest is {near[0]}" if near else ""
        raise ValueError(f"{said}: the module {module_name} has no {name}{advice}.")
    found = getattr(module, name)
    if not fits(found):
        kind = "module" if isinstance(found, types.ModuleType) else type(found).__name__
        kind = f"class {named(found)}" if isinstance(found, type) else kind
        raise ValueError(f"{said}: expected {expected}, found a {kind}.")
    return found


def own_block(
    kind: type[nn.Module],
    in_channels: int,
    *,
    ndim: int,
    common: Mapping[str, Any],
    options: Mapping[str, Any],
) -> nn.Module:
    """Make a block of a user's class, as :class:`BlockProtocol` says.

    Args:
        kind: The class.
        in_channels, ndim: As of the protocol.
        common: The arguments that all blocks have.
        options: Options of the block itself.

    Raises:
        ValueError: The class does not take these arguments, or its constructor fails.
    """
    said = f"block {named(kind)}"
    parameters = inspect.signature(kind).parameters
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    if "ndim" not in parameters and not takes_any:
        raise ValueError(
            f"{said}{inspect.signature(kind)} takes no ndim: it is called with the number of "
            "channels and ndim=, the number of axes."
        )
    passed = {name: value for name, value in common.items() if name in parameters}
    asked = {name: value for name, value in common.items() if value != _COMMON[name]}
    arguments = {**passed, **asked, **options}
    unknown = [name for name in arguments if name not in parameters]
    if unknown and not takes_any:
        own = [each for each in list(parameters)[1:] if each not in ("ndim", *_COMMON)]
        has = f"its options are: {', '.join(own)}" if own else "it has none of its own"
        raise ValueError(f"{unknown[0]}={arguments[unknown[0]]!r} with {said}: {has}.")
    return made_by(functools.partial(kind, in_channels, ndim=ndim, **arguments), said)


def made_by(
    make: Callable[[], nn.Module],
    said: str,
    reported: tuple[type[BaseException], ...] = (Exception, SystemExit),
) -> nn.Module:
    """Call a class or function of a user's own that makes a block.

    Raises:
        ValueError: It fails by one of the ``reported`` errors, or returns something else than a
            module that is set up. Other errors pass.
    """
    try:
        with _as_it_was():
            block = make()
    except reported as error:
        raise ValueError(f"{said} cannot be made: {reason_of(error)}.") from error
    if not isinstance(block, nn.Module):
        kind = f"class {named(block)}" if isinstance(block, type) else type(block).__name__
        raise ValueError(f"{said}: expected a torch.nn.Module, found a {kind}.")
    if not hasattr(block, "_parameters"):
        raise ValueError(
            f"{said}: the constructor of {named(type(block))} does not call super().__init__()."
        )
    return block


@contextmanager
def _as_it_was() -> Iterator[None]:
    """Run code of others, and leave the default type and the recording of gradients as they were.

    The random state is not among them: a constructor draws weights.
    """
    dtype, records = torch.get_default_dtype(), torch.is_grad_enabled()
    try:
        yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(records)


def check_block(block: nn.Module, said: str, in_channels: int, ndim: int) -> None:
    """Try a block in evaluation mode on a small feature map; the block stays as it was.

    On the meta device no values are looked at.

    Raises:
        ValueError: It cannot be copied, fails, returns another shape, type or device than its
            input's or values that are not finite, or no finite gradient reaches its input.
    """
    tensors = [each for each in (*block.parameters(), *block.buffers()) if each.is_floating_point()]
    like = tensors[0] if tensors else torch.empty(0)
    try:
        trial = copy.deepcopy(block).eval()
    except (Exception, SystemExit) as error:  # of whatever it holds
        raise ValueError(f"{said} cannot be copied (copy.deepcopy): {reason_of(error)}.") from error
    shape = (2, in_channels, *_TRIED_ON[:ndim])
    devices = [like.device] if like.device.type == "cuda" else []
    # Not every operation has a CPU kernel for half precision.
    dtype = torch.promote_types(like.dtype, torch.float)
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(0), device="cpu")
    with torch.random.fork_rng(devices), torch.inference_mode(False), torch.enable_grad():
        x = drawn.to(like.device, dtype, copy=True).requires_grad_()
        try:
            with _as_it_was(), without_autocast(like.device.type):
                y = trial.to(dtype)(x.clone())  # which it may change in place
            same = isinstance(y, Tensor) and (y.shape, y.device) == (x.shape, x.device)
            grown = same and y.requires_grad
            gradient = torch.autograd.grad(y.sum(), x, allow_unused=True)[0] if grown else None
        except (Exception, SystemExit) as error:  # whatever a forward pass of others raises
            raise ValueError(f"{said} fails on an input of {shape}: {reason_of(error)}.") from error
    if not isinstance(y, Tensor) or y.shape != x.shape:
        found = tuple(y.shape) if isinstance(y, Tensor) else f"a {type(y).__name__}"
        raise ValueError(f"{said}: expected an output of the input's shape {shape}, found {found}.")
    if (y.dtype, y.device) != (x.dtype, x.device):
        raise ValueError(
            f"{said}: expected an output in the input's {x.dtype} on {x.device}, found {y.dtype} "
            f"on {y.device}."
        )
    if gradient is None:
        raise ValueError(f"{said}: no gradient reaches its input.")
    for what, values in (("output", y), ("gradient", gradient)):
        if not values.is_meta and not bool(values.isfinite().all()):
            raise ValueError(f"{said}: its {what} is not finite on a finite input of {shape}.")


def pairs_of(
    function: Callable[[Tensor, Tensor], Tensor],
    theta: Tensor,
    phi: Tensor,
    normalization: str | None,
    there: Tensor | None = None,
) -> Tensor:
    """Return M_ij = k(theta_i, phi_j) of a user's own function, zero where a pair is not there.

    Values are looked at where they can be read: not in compiled or exported graphs, nor within
    torch.func. Where embeddings are not finite themselves, M need not be.

    Args:
        function: k of all pairs.
        normalization: of M; None for none, where M may have negative entries.
        there: boolean mask of pairs. Shape: (B, N, M).

    Shapes:
        theta (B, N, Cs), phi (B, M, Cs) -> (B, N, M), in the type of theta outside autocast.

    Raises:
        ValueError: It returns another shape, no floating point, another device, values that are not
            finite, or negative ones where there is a normalisation.
    """
    said = f"kernel {named(function)}"
    values = function(theta, phi)
    shape = (*theta.shape[:2], phi.shape[1])
    if not isinstance(values, Tensor) or values.shape != shape:
        found = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise ValueError(
            f"{said}: expected M {shape} of theta {tuple(theta.shape)} and phi "
            f"{tuple(phi.shape)}, found {found}."
        )
    if not values.is_floating_point() or values.device != theta.device:
        raise ValueError(
            f"{said}: expected M in floating point on {theta.device}, found {values.dtype} on "
            f"{values.device}."
        )
    if autocast_dtype(theta.device.type) is None:
        values = values.to(theta.dtype)
    if there is not None:
        values = values.masked_fill(~there, 0)
    if not values.numel() or not can_be_read(values):
        return values
    if values.is_cuda and torch.cuda.is_current_stream_capturing():  # nothing can be read then
        return values
    least, largest = torch.stack(values.detach().aminmax()).tolist()
    if not (math.isfinite(least) and math.isfinite(largest)):
        if bool(theta.isfinite().all()) and bool(phi.isfinite().all()):
            raise ValueError(
                f"{said}: its values are not finite, of embeddings of at most "
                f"{float(max(theta.detach().abs().max(), phi.detach().abs().max())):g}."
            )
    elif normalization is not None and least < 0:
        raise ValueError(
            f"{said} with normalization={normalization!r}: it has negative values, such as "
            f"{least:g}, whose sums no degree can be; use normalization=None, where the block has "
            "that option."
        )
    return values


def check_pairs(function: Callable[[Tensor, Tensor], Tensor], normalization: str | None) -> None:
    """Try a user's own function of pairs on a few embeddings, on the CPU.

    Raises:
        ValueError: It fails, what it returns is not as :func:`pairs_of` says, or no finite gradient
            reaches theta or phi, so that their projections would never train.
    """
    said = f"kernel {named(function)}"
    draw = torch.Generator().manual_seed(0)

    def tried(theta: Tensor, phi: Tensor) -> Tensor:
        try:
            with _as_it_was(), torch.device("cpu"):  # where a network is made on meta, too
                return function(theta, phi)
        except (Exception, SystemExit) as error:  # whatever a function of others raises
            raise ValueError(
                f"{said} fails on theta {tuple(theta.shape)} and phi {tuple(phi.shape)}: "
                f"{reason_of(error)}."
            ) from error

    functools.update_wrapper(tried, function)
    with torch.inference_mode(False), torch.enable_grad(), without_autocast("cpu"):
        theta, phi, weights = (
            torch.randn(shape, generator=draw, device="cpu", dtype=torch.float)
            for shape in ((2, 5, 4), (2, 3, 4), (2, 5, 3))
        )
        inputs = {"theta": theta.requires_grad_(), "phi": phi.requires_grad_()}
        # Weighted, as the plain sum of some, such as a softmax, is the same for all embeddings.
        total = (weights * pairs_of(tried, theta, phi, normalization)).sum()
        grown = total.requires_grad
        gradients = torch.autograd.grad(total, (theta, phi), allow_unused=True) if grown else ()
    for name, gradient in zip(inputs, gradients or (None, None), strict=True):
        if gradient is None:
            raise ValueError(f"{said}: no gradient reaches {name}, which would never train.")
        if not bool(gradient.isfinite().all()):
            raise ValueError(f"{said}: its gradient with respect to {name} is not finite.")


def reason_of(error: BaseException) -> str:
    """Return the kind of an error of others' code and the first line of what it says."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__
