"""Blocks from the state dicts of other code, and from our own with their descriptions.

The arithmetic of each is that of its project in evaluation mode; projections that follow each other
without anything between them are multiplied out.
"""

from __future__ import annotations

import difflib
import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from video_snl.blocks.descriptions import check_same_block, completed
from video_snl.blocks.options import KernelName
from video_snl.blocks.zoo import make_block
from video_snl.config.user_code import allowing_code, refuse_code
from video_snl.errors import UserError
from video_snl.models.released.blocks import load_reference_block
from video_snl.models.released.state_dicts import StateDictError
from video_snl.models.weights.formats import unwrapped
from video_snl.models.weights.sources import read_checkpoint
from video_snl.utils.finite import check_kinds, check_weights

__all__ = ["Source", "load_block"]

Source = Literal[
    "video_snl", "mmaction2", "pytorchvideo", "slowfast", "gcnet", "cgnl", "snl-released"
]
_MODULE = "module"  # of DataParallel and DistributedDataParallel
# The end of a name that each block has.
_TELLING = {
    "mmaction2": ("g.conv.weight", "g.0.conv.weight"),
    "pytorchvideo": ("conv_g.weight",),
    "slowfast": ("conv_g.weight",),
    "gcnet": ("conv_mask.weight",),
    "cgnl": ("gn.weight",),
    "snl-released": ("t.weight", "query_conv.weight"),
}
# The names of a nonlocal block's layers: theta, phi, g, out, norm.
_LAYERS = {
    "mmaction2": ("theta.conv", "phi.conv", "g.conv", "conv_out.conv", "conv_out.bn"),
    "pytorchvideo": ("conv_theta", "conv_phi", "conv_g", "conv_out", "norm"),
    "slowfast": ("conv_theta", "conv_phi", "conv_g", "conv_out", "bn"),
}
_COUNTER = "num_batches_tracked"


def load_block(
    state: Mapping[str, Any] | str | os.PathLike[str],
    source: Source = "video_snl",
    *,
    prefix: str = "",
    into: nn.Module | None = None,
    kernel: KernelName | Literal["taylor"] | None = None,
    scaled: bool | None = None,
    pool: int | None = None,
    allow_code: bool = False,
    **options: Any,
) -> nn.Module:
    """Return the block of a state dict, in evaluation mode.

    =============  ==============================================================================
    source         what it is
    =============  ==============================================================================
    video_snl      ours: its description, which ``state_dict()`` keeps in ``_metadata``, says all
    mmaction2      ``NonLocal1d|2d|3d`` of mmcv and mmaction2; ``kernel`` is their ``mode`` (default
                   ``embedded_gaussian``), ``scaled`` their ``use_scale`` (default True)
    pytorchvideo   ``NonLocal``; ``kernel`` ``embedded_gaussian`` (their softmax, the default) or
                   ``dot``; ``pool``: their spatial pooling, which a state dict does not tell
    slowfast       ``Nonlocal`` of PySlowFast, likewise
    gcnet          ``ContextBlock``
    cgnl           ``SpatialCGNL`` (``kernel="dot"``, the default; ``scaled``: ``use_scale``) or
                   ``SpatialCGNLx`` (``kernel="taylor"``, with ``order`` and ``gamma``)
    snl-released   the code of arXiv:2108.02451; ``options`` are those of
                   :func:`~video_snl.models.released.blocks.load_reference_block`
    =============  ==============================================================================

    Args:
        state: tensors by name, with or without ``module.``, or a file of ``torch.save``; they may
            stand in ``state_dict``, ``model_state`` or ``model`` of a checkpoint.
        source: the code that it is from.
        prefix: dotted path of the block in the state dict of a whole network.
        into: block of ours that the tensors are to be loaded into, and that is returned, in the
            mode that it is in.
        allow_code: import the module that a description names for a block of somebody's own, which
            runs its code.

    Raises:
        ValueError: a file that is not there, damaged or of no tensors, names that are missing or
            not known, tensors of other shapes, sparse, complex, quantised or of whole numbers,
            weights that are not finite, options that the source does not have, a prefix below
            which there is none (the message has those below which there are), or a description
            that is damaged or not that of ``into``: the message has both. ``into`` is then as it
            was.
        UserError: a description that names a module, without ``allow_code``.
    """
    if source not in get_args(Source):
        near = difflib.get_close_matches(str(source), get_args(Source), 1)
        meant = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(get_args(Source))}"
        raise ValueError(f"source={source!r} is unknown; {meant}")
    if into is not None and not isinstance(into, nn.Module):
        raise ValueError(f"into={into!r} is a {type(into).__name__}; a block of ours was expected.")
    whole, origin = _read(state)
    given, described = _below(unwrapped(whole), prefix, source, origin)
    if source == "video_snl":
        _refuse(source, {"kernel": kernel, "scaled": scaled, "pool": pool, **options})
        return _own(given, described, into, origin, allow_code)
    if source == "snl-released":
        known = list(inspect.signature(load_reference_block).parameters)[1:]
        foreign = {name: value for name, value in options.items() if name not in known}
        _refuse(source, {"kernel": kernel, "scaled": scaled, "pool": pool, **foreign})
        _checked({n: t for n, t in given.items() if isinstance(t, Tensor)}, None, origin)
        block = load_reference_block(given, **options)
    else:
        tensors = _Named(_checked(_tensors(given), None, origin), source)
        if source == "gcnet":
            _refuse(source, {"kernel": kernel, "scaled": scaled, "pool": pool, **options})
            block = _context(tensors)
        elif source == "cgnl":
            _refuse(source, {"pool": pool})
            block = _generalized(tensors, kernel or "dot", bool(scaled), options)
        else:
            _refuse(source, options)
            block = _nonlocal(tensors, source, kernel, scaled, pool)
        tensors.check_all_used()
    if into is None:
        return block.eval()
    check_same_block(getattr(block, "description", None), into, source)
    return _loaded(into, block.state_dict(), origin)


class _Named:
    """Tensors of a state dict, of which each has to be asked for."""

    def __init__(self, tensors: Mapping[str, Tensor], source: str) -> None:
        self.tensors, self.source = dict(tensors), source
        self.left = {name for name in tensors if not name.endswith(_COUNTER)}

    def has(self, name: str) -> bool:
        return name in self.tensors

    def take(self, name: str) -> Tensor:
        if name not in self.tensors:
            there = sorted(self.tensors)
            more = f" and {len(there) - 12} more" if len(there) > 12 else ""
            raise ValueError(
                f"{name} is missing in a block of {self.source}; there are "
                f"{', '.join(there[:12]) or 'no tensors'}{more}."
            )
        self.left.discard(name)
        return self.tensors[name].detach()

    def matrix(self, name: str) -> Tensor:
        """Return the weight of a 1x1 convolution as (out, in)."""
        weight = self.take(f"{name}.weight")
        if weight.ndim < 2 or 0 in weight.shape or any(size != 1 for size in weight.shape[2:]):
            raise ValueError(f"{name}.weight is {tuple(weight.shape)}, no 1x1 convolution.")
        return weight.flatten(1)

    def axes(self, name: str) -> int:
        """Return the number of axes of the grid that a 1x1 convolution is for."""
        shape = tuple(self.take(f"{name}.weight").shape)
        if not 3 <= len(shape) <= 5:
            raise ValueError(f"{name}.weight is {shape}, no convolution over 1 to 3 axes.")
        return len(shape) - 2

    def bias(self, name: str) -> Tensor | None:
        if not self.has(f"{name}.bias"):
            return None
        bias, count = self.take(f"{name}.bias"), len(self.matrix(name))
        if bias.shape != (count,):
            raise ValueError(f"{name}.bias is {tuple(bias.shape)}, not ({count},).")
        return bias

    def check_all_used(self) -> None:
        if self.left:
            raise ValueError(
                f"{', '.join(sorted(self.left))} are not of a block of {self.source} as it is read "
                "here: give the state dict of the block alone, and its source."
            )


def _read(state: Mapping[str, Any] | str | os.PathLike[str]) -> tuple[Mapping[str, Any], str]:
    """Return what a file holds, or what was given, and what messages call it."""
    if isinstance(state, Mapping):
        return state, "the state dict"
    if not isinstance(state, str | os.PathLike):
        of_module = "; give its state_dict()" if isinstance(state, nn.Module) else ""
        raise ValueError(
            f"a block is made of tensors by name, or of a file of torch.save that holds them; got "
            f"a {type(state).__name__}{of_module}."
        )
    path = Path(state)
    try:
        return read_checkpoint(path), f"weights {str(path)!r}"
    except UserError as error:
        raise StateDictError(str(error)) from error


def _checked(
    tensors: dict[str, Tensor], wanted: Mapping[str, Tensor] | None, origin: str
) -> dict[str, Tensor]:
    """Return tensors of which each can be a weight; ``wanted`` are those of a block, by name."""
    try:
        check_kinds(tensors, wanted, origin)
        check_weights(tensors, origin)
    except UserError as error:
        raise StateDictError(str(error)) from error
    return tensors


def _loaded(block: nn.Module, state: Mapping[str, Tensor], origin: str) -> nn.Module:
    """Load the tensors that a block has, none more and none less."""
    _check_fit(block, state, origin)
    block.load_state_dict(_checked(dict(state), block.state_dict(), origin))
    return block


def _check_fit(block: nn.Module, state: Mapping[str, Tensor], origin: str) -> None:
    """Check that the names and shapes of tensors are those of a block."""
    own = block.state_dict()
    wanted = [name for name in own if not name.endswith(_COUNTER)]  # which old files lack
    faults = [f"{name} is missing" for name in wanted if name not in state]
    faults += [f"{name} is not known" for name in state if name not in own]
    faults += [
        f"{name} is {tuple(state[name].shape)}, not {tuple(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    if faults:
        more = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise ValueError(
            f"{origin} does not fit a {type(block).__name__}: {'; '.join(faults[:5])}{more}."
        )


def _below(
    state: Mapping[str, Any], prefix: str, source: str, origin: str
) -> tuple[dict[str, Any], Mapping[str, Any] | None]:
    """Return the values below a prefix, by their names there, and what their description says."""
    names = list(map(str, state))
    metadata: Any = getattr(state, "_metadata", None)
    wrapped = bool(names) and all(name.startswith(f"{_MODULE}.") for name in names)
    if wrapped:
        names = [name.removeprefix(f"{_MODULE}.") for name in names]
    found = dict(zip(names, state.values(), strict=True))
    path = str(prefix).strip(".").removeprefix(f"{_MODULE}." if wrapped else "")
    places = _places(names, metadata, source)
    start = f"{path}." if path else ""
    below = {n.removeprefix(start): value for n, value in found.items() if n.startswith(start)}
    if path and not below and path not in places:  # GE may have no tensors
        raise ValueError(f"{origin} has no names below prefix={prefix!r}{_advice(places, path)}")
    if not path and places and "" not in places:
        raise ValueError(f"{origin} is not of one block alone{_advice(places, path)}")
    return below, _description(metadata, path, origin)


def _places(names: list[str], metadata: Any, source: str) -> list[str]:
    """Return the dotted paths at which there are blocks of a source; "" is the top."""
    if source == "video_snl":
        described = metadata.items() if isinstance(metadata, Mapping) else ()
        found = [
            "" if path == _MODULE else str(path).removeprefix(f"{_MODULE}.")
            for path, about in described
            if isinstance(about, Mapping) and "block" in about
        ]
        return list(dict.fromkeys(found))
    paths = []
    for name in names:
        for end in _TELLING[source]:
            path = name.removesuffix(end)
            # Several CC blocks are numbered from the top on.
            if path != name and (not path or path.endswith(".")):
                paths.append("" if path[:-1].isdigit() else path[:-1])
    return list(dict.fromkeys(paths))


def _advice(places: list[str], path: str) -> str:
    fitting = [place for place in places if place]
    if not fitting:
        return ", and no block of that source."
    near = difflib.get_close_matches(path, fitting, 3, 0.5) or fitting[:3]
    more = f" (and {len(fitting) - len(near)} more)" if len(fitting) > len(near) else ""
    return f": give prefix= one of {', '.join(map(repr, near))}{more}, below which there is one."


def _tensors(state: Mapping[str, Any]) -> dict[str, Tensor]:
    others = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if others:
        raise ValueError(f"{', '.join(others[:3])} are no tensors: give a block's state dict.")
    return dict(state)


def _refuse(source: str, options: Mapping[str, Any]) -> None:
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise ValueError(f"{', '.join(given)}: a block of {source!r} has no such option.")


def _own(
    state: Mapping[str, Any],
    described: Mapping[str, Any] | None,
    into: nn.Module | None,
    origin: str,
    allow_code: bool,
) -> nn.Module:
    """Build, or fill, a block by its description."""
    if described is None:
        raise ValueError(
            "these tensors have no description of a block, as state_dict() of ours keeps it: name "
            f"their source, one of {', '.join(get_args(Source)[1:])}, or use load_state_dict."
        )
    options = {key: value for key, value in described.items() if key != "name"}
    with allowing_code(allow_code):  # before anything is made by the description
        refuse_code({"block": described["name"], "block_options": options}, "load_block")
    tensors = _tensors(state)
    if into is not None:
        check_same_block(described, into, origin)
        return _loaded(into, tensors, origin)
    options = completed(described, origin)
    with torch.device("meta"):  # sizes that are not those of the tensors take no memory
        _check_fit(make_block(**options), tensors, origin)
    return _loaded(make_block(**options), tensors, origin).eval()


def _description(metadata: Any, path: str, origin: str) -> Mapping[str, Any] | None:
    """Return how the block at a path was made; None where the metadata say nothing of it."""
    found = metadata
    if found is None:
        return None
    if isinstance(found, Mapping):
        wrapped = f"{_MODULE}.{path}" if path else _MODULE
        about = [found[at] for at in (path, wrapped) if at in found]
        odd = [each for each in about if not isinstance(each, Mapping)]
        said = [each["block"] for each in about if isinstance(each, Mapping) and "block" in each]
        if not odd and not said:
            return None
        found = (odd or said)[0]
    named = isinstance(found, Mapping) and all(isinstance(name, str) for name in found)
    if not named or not {"name", "in_channels"} <= found.keys():
        raise ValueError(
            f"{origin}: its description of a block in _metadata is damaged ({str(found)[:80]}); "
            "take another copy, or make_block and load_state_dict."
        )
    return found


def _nonlocal(
    tensors: _Named,
    source: str,
    kernel: KernelName | Literal["taylor"] | None,
    scaled: bool | None,
    pool: int | None,
) -> nn.Module:
    theta, phi, g, out, norm = _LAYERS[source]
    after = source == "mmaction2"  # which pools after the projection, and says so in its names
    if after:
        pooled = tensors.has("g.0.conv.weight")
        _refuse(source, {"pool": pool})
        pool = 2 if pooled else 1
        g = "g.0.conv" if pooled else g
        phi = "phi.0.conv" if pooled else phi
    kernel = kernel or "embedded_gaussian"
    known = ("embedded_gaussian", "dot", *(("gaussian", "concatenation") if after else ()))
    if kernel not in known:
        raise ValueError(f"kernel={kernel!r}: a block of {source} has {', '.join(known)}.")
    exponential = kernel == "embedded_gaussian"
    if not exponential or not after:
        _refuse(source, {"scaled": scaled})
    signal, weight = tensors.matrix(g), tensors.matrix(out)
    names = [] if kernel == "gaussian" else [theta, phi]
    parts = [(tensors.matrix(name), tensors.bias(name)) for name in names]
    if any(len(matrix) != len(signal) for matrix, _ in parts):
        shapes = ", ".join(str(tuple(matrix.shape)) for matrix, _ in parts)
        raise ValueError(f"theta and phi are {shapes}, and g {tuple(signal.shape)}: other widths.")
    if kernel == "concatenation":
        if pool != 1:
            raise ValueError(
                "kernel='concatenation' with sub-sampled keys: mmaction2 takes the maxima of phi "
                "before it is joined with theta, which no block here does."
            )
        join = tensors.matrix("concat_project.conv")
        if join.shape != (1, 2 * len(signal)):
            raise ValueError(
                f"concat_project.conv.weight is {tuple(join.shape)} for theta and phi of "
                f"{len(signal)} channels each."
            )
        parts = [
            (w @ matrix, None if bias is None else w @ bias)
            for w, (matrix, bias) in zip(join.chunk(2, 1), parts, strict=True)
        ]
    parts.append((signal, tensors.bias(g)))
    out_bias = tensors.bias(out)
    has_norm = tensors.has(f"{norm}.weight")
    where = ([] if kernel == "gaussian" else ["theta", "phi"]) + ["g"]
    biased = [name for name, (_, bias) in zip(where, parts, strict=True) if bias is not None]
    biased += ["out"] if out_bias is not None else []
    block = make_block(
        "nl",
        weight.shape[0],
        ndim=tensors.axes(out),
        inter_channels=signal.shape[0],
        zero_init=False,
        kernel=kernel,  # type: ignore[arg-type]
        scaled=exponential and scaled is not False,
        norm="batch" if has_norm else "none",
        bias=",".join(biased),
        **({} if pool in (None, 1) else _pooling(pool, first=not after)),  # type: ignore[arg-type]
    )
    state = {
        "project.weight": _stacked([matrix for matrix, _ in parts]),
        "units.0.combine.weight": weight,
    }
    biases = [bias for _, bias in parts if bias is not None]
    if biases:
        state["project.bias"] = torch.cat(biases)
    if out_bias is not None:
        state["units.0.combine.bias"] = out_bias
    if has_norm:
        for name in ("weight", "bias", "running_mean", "running_var"):
            state[f"units.0.norm.{name}"] = tensors.take(f"{norm}.{name}")
    return _filled(block, state)


def _stacked(matrices: list[Tensor]) -> Tensor:
    """Return the matrices of projections one below the other."""
    if len({matrix.shape[1] for matrix in matrices}) > 1:
        shapes = ", ".join(str(tuple(matrix.shape)) for matrix in matrices)
        raise ValueError(f"the projections {shapes} are not of one number of input channels.")
    return torch.cat(matrices)


def _pooling(pool: int, *, first: bool) -> dict[str, Any]:
    return {"pool": pool, "pool_first": first, "ceil_mode": False}


def _context(tensors: _Named) -> nn.Module:
    """Build GC of a ContextBlock; the bias of its mask cancels in the softmax."""
    ndim, channels = tensors.axes("conv_mask"), tensors.matrix("conv_mask").shape[1]
    tensors.bias("conv_mask")
    branches = {"add": "channel_add_conv", "mul": "channel_mul_conv"}
    there = [kind for kind, name in branches.items() if tensors.has(f"{name}.0.weight")]
    if not there:
        raise ValueError("neither channel_add_conv nor channel_mul_conv is in a block of gcnet.")
    hidden = len(tensors.matrix(f"{branches[there[0]]}.0"))
    reduction = channels // hidden
    if reduction == 0 or channels // reduction != hidden:
        raise ValueError(f"{hidden} of {channels} channels are no whole reduction.")
    block = make_block(
        "gc",
        channels,
        ndim=ndim,
        reduction=reduction,
        fusion="both" if len(there) == 2 else there[0],  # type: ignore[arg-type]
        zero_init=False,
    )
    state = {"mask.weight": tensors.take("conv_mask.weight")}
    for kind in there:
        own = {"add": "transform", "mul": "gate"}[kind]
        for layer in (0, 1, 3):
            for name in ("weight", "bias"):
                state[f"{own}.{layer}.{name}"] = tensors.take(f"{branches[kind]}.{layer}.{name}")
    return _filled(block, state)


def _generalized(
    tensors: _Named, kernel: str, scaled: bool, options: Mapping[str, Any]
) -> nn.Module:
    if kernel not in ("dot", "taylor"):
        raise ValueError(f"kernel={kernel!r}: a block of cgnl has dot and taylor.")
    own = ("order", "gamma") if kernel == "taylor" else ()
    _refuse("cgnl", {name: value for name, value in options.items() if name not in own})
    t, p, g, z = (tensors.matrix(name) for name in "tpgz")
    groups = g.shape[0] // z.shape[1]
    series = {"series": False, "scaled": scaled} if kernel == "dot" else dict(options)
    block = make_block(
        "cgnl",
        t.shape[1],
        ndim=tensors.axes("z"),
        inter_channels=t.shape[0],
        zero_init=False,
        groups=groups,
        **series,  # type: ignore[arg-type]
    )
    return _filled(
        block,
        {
            "project.weight": _stacked([t, p, g]),
            "units.0.combine.weight": z,
            "units.0.norm.weight": tensors.take("gn.weight"),
            "units.0.norm.bias": tensors.take("gn.bias"),
        },
    )


def _filled(block: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    """Load tensors, of which each takes the axes that the block's has."""
    block = block.to(next(iter(state.values())).dtype)
    own = block.state_dict()
    for name, value in state.items():
        if value.numel() != own[name].numel():
            raise ValueError(
                f"{name}: {tuple(value.shape)} in the state dict, {tuple(own[name].shape)} in a "
                "block of these widths."
            )
    shaped = {name: value.reshape(own[name].shape) for name, value in state.items()}
    counters = {name: value for name, value in own.items() if name.endswith(_COUNTER)}
    block.load_state_dict({**counters, **shaped})
    return block
