"""From a row of the zoo to its classes in 1d, 2d and 3d."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from types import UnionType
from typing import (
    Any,
    ClassVar,
    Literal,
    TypedDict,
    Union,
    Unpack,
    get_args,
    get_origin,
    get_type_hints,
)

from video_snl.blocks.block import NonlocalBlock
from video_snl.blocks.recipe import Recipe

__all__ = ["BlockOptions", "Dimensions", "ZooBlock", "checked_options", "dimensions"]


class BlockOptions(TypedDict, total=False):
    """The options of all blocks together; each takes those its row in the zoo names.

    kernel: ``relu_dot``, ``dot``, ``embedded_gaussian`` or ``gaussian``.
    normalization: ``sym``, ``rw`` or None.
    scaled: divide the exponent by sqrt(Cs).
    pool: sub-sample the keys by this factor along every spatial axis.
    order: of gSNL's or Cayley's filter, of CGNL's Taylor series.
    groups, gamma: of CGNL.
    recurrence: how many times CC is applied.
    reduction: of the channels in the gates ``se``, ``ge`` and ``gc``.
    theta, extent: of the gate ``ge``.
    """

    kernel: Literal["relu_dot", "dot", "embedded_gaussian", "gaussian"]
    normalization: Literal["sym", "rw"] | None
    scaled: bool
    pool: int
    order: int
    groups: int
    gamma: float
    recurrence: int
    reduction: int | None
    theta: Literal["minus", "theta", "plus"]
    extent: int


class ZooBlock(NonlocalBlock):
    """A nonlocal block of the zoo, of one dimension; see its row for the equation and options.

    Arguments, shapes and errors as in :class:`NonlocalBlock`; ``options`` are those of the row.
    """

    row: ClassVar[Callable[..., Recipe]]
    axes: ClassVar[int]

    def __init__(
        self,
        in_channels: int,
        inter_channels: int | None = None,
        *,
        num_units: int = 1,
        zero_init: bool = True,
        activation: Literal["relu"] | None = None,
        **options: Unpack[BlockOptions],
    ) -> None:
        row = type(self).row
        super().__init__(
            in_channels,
            inter_channels,
            ndim=self.axes,
            recipe=row(**checked_options(row.__name__, row, options)),
            num_units=num_units,
            zero_init=zero_init,
            activation=activation,
        )

    @classmethod
    def factory(cls) -> Callable[..., NonlocalBlock]:
        """The class as ``insert_blocks`` takes a block that is not in the zoo.

        Raises (when called):
            ValueError: for a network of another number of axes.
        """

        def build(in_channels: int, *, ndim: int, **arguments: Any) -> NonlocalBlock:
            if ndim != cls.axes:
                raise ValueError(f"{cls.__name__} in a network of {ndim} axes, not {cls.axes}.")
            return cls(in_channels, **arguments)

        return build


Dimensions = tuple[type[ZooBlock], type[ZooBlock], type[ZooBlock]]


def dimensions(name: str, row: Callable[..., Recipe]) -> Dimensions:
    """The classes ``name`` 1d, 2d and 3d of a row, to be bound to those names in its module."""
    module = sys.modules[row.__module__].__name__

    def of(ndim: int) -> type[ZooBlock]:
        members = {"row": staticmethod(row), "axes": ndim, "__module__": module}
        return type(f"{name}{ndim}d", (ZooBlock,), {**members, "__doc__": row.__doc__})

    return of(1), of(2), of(3)


def checked_options(
    block: str, function: Callable[..., Any], options: Mapping[str, Any]
) -> dict[str, Any]:
    """``options``, of which every one is a parameter of ``function``.

    Raises:
        ValueError: naming the option, the block and the options it has.
    """
    common = ("self", "in_channels", "ndim", "zero_init")
    known = [name for name in inspect.signature(function).parameters if name not in common]
    for name, value in options.items():
        if name in known and not _fits(value, get_type_hints(function)[name]):
            raise ValueError(
                f"{name}={value!r} with block={block!r} is a {type(value).__name__}; expected: "
                f"{inspect.signature(function).parameters[name].annotation}."
            )
        if name not in known:
            has = f"its options are: {', '.join(known)}" if known else "it has none of its own"
            raise ValueError(f"{name}={value!r} with block={block!r}: {has}.")
    return dict(options)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value from a configuration has the type an option is declared with.

    Of a choice of strings any string fits: the option itself names the choices.
    """
    if get_origin(hint) in (Union, UnionType):
        return any(_fits(value, part) for part in get_args(hint))
    if get_origin(hint) is Literal:
        return isinstance(value, str)
    if hint is int or hint is float:
        return isinstance(value, int | hint) and not isinstance(value, bool)
    return isinstance(value, hint)
