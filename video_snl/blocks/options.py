"""The options of blocks: their names and types, and the check of values against these."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import UnionType
from typing import Any, Literal, TypedDict, Union, get_args, get_origin, get_type_hints

from video_snl.blocks.sub_block import Normalization, NormName

__all__ = ["NO_OPTIONS", "BlockOptions", "KernelName", "checked_options"]

NO_OPTIONS = ("self", "in_channels", "ndim", "zero_init", "device", "dtype")
"""Arguments of a block that are not its own options."""

KernelName = Literal["relu_dot", "dot", "embedded_gaussian", "gaussian", "concatenation"]


class BlockOptions(TypedDict, total=False):
    """The options of all blocks together; a block takes those that its row in the zoo names.

    kernel: kernel of pairs of positions, or the dotted path of a user's own.
    filter: dotted path of a user's own filter, of ``order``.
    normalization: ``sym``, ``rw`` or None.
    scaled: division of the exponent by sqrt(Cs).
    bias: projections with a bias: ``all``, or ``theta``, ``phi``, ``g``, ``out``, with commas.
    norm, norm_groups: ``batch``, ``group`` (with so many groups), ``layer`` or ``none``.
    pool: factor by which the keys are sub-sampled along every spatial axis.
    pool_first: pooling of the features before their projection, instead of phi and Z after it.
    ceil_mode: pooling keeps an odd rest at the end of an axis.
    descriptors: number of descriptors that A2 gathers; default Cs.
    order: order of gSNL's or Cayley's filter, or of CGNL's Taylor series.
    groups: groups of channels of CGNL.
    gamma: width of CGNL's radial basis function; initial value of DNL's learned gamma, None for
        none.
    temperature: divisor of DNL's exponents.
    series: CGNL's Taylor series; without it the dot product of single channels.
    recurrence: number of times that CC is applied.
    reduction: reduction of the channels in the gates ``se``, ``ge`` and ``gc``.
    fusion: how ``gc`` joins its context: ``add``, ``mul`` or ``both``.
    theta, extent: form and size of the gather of the gate ``ge``.
    """

    bias: str
    norm: NormName
    norm_groups: int | None
    kernel: KernelName | str
    filter: str | None
    normalization: Normalization | None
    scaled: bool
    pool: int
    pool_first: bool
    ceil_mode: bool
    descriptors: int | None
    series: bool
    fusion: Literal["add", "mul", "both"]
    order: int
    groups: int
    gamma: float | None
    temperature: float
    recurrence: int
    reduction: int | None
    theta: Literal["minus", "theta", "plus"]
    extent: int


def checked_options(
    block: str,
    function: Callable[..., Any],
    options: Mapping[str, Any],
    common: Callable[..., Any] | None = None,
) -> dict[str, Any]:
    """Check that every option is a parameter of ``function``, or of ``common``, and has its type.

    Raises:
        ValueError: naming the option, the block and the options it has.
    """
    functions = [function] if common is None else [function, common]
    owners = {
        name: each
        for each in functions
        for name in inspect.signature(each).parameters
        if name not in NO_OPTIONS
    }
    known = list(owners)
    for name, value in options.items():
        if name in known and not _fits(value, get_type_hints(owners[name])[name]):
            raise ValueError(
                f"{name}={value!r} with block={block!r} is a {type(value).__name__}; expected: "
                f"{inspect.signature(owners[name]).parameters[name].annotation}."
            )
        if name not in known:
            has = f"its options are: {', '.join(known)}" if known else "it has none of its own"
            raise ValueError(f"{name}={value!r} with block={block!r}: {has}.")
    return dict(options)


def _fits(value: Any, hint: Any) -> bool:
    """Check a value from a configuration against the declared type of an option.

    Any string fits a choice of strings: the option's own check names the choices.
    """
    if get_origin(hint) in (Union, UnionType):
        return any(_fits(value, part) for part in get_args(hint))
    if get_origin(hint) is Literal:
        return isinstance(value, str)
    if hint is int or hint is float:
        return isinstance(value, int | hint) and not isinstance(value, bool)
    return isinstance(value, hint)
