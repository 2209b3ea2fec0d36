"""Insertion of blocks into any network, at named places.

A position is ``before:PLACE`` or ``after:PLACE``. A place is a residual unit of a stage
(``res4.5``, ``layer2.1``) or a dotted module path of the bare network (``blocks.3.res_blocks.5``).

How many channels there are is measured on an example, or read from the layers of the module where
these leave one answer. :mod:`video_snl.blocks.layouts` has the wrappers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, Unpack

import torch
from torch import Tensor, nn

from video_snl.blocks.feature_maps import (
    FeatureMap,
    Told,
    arguments_of,
    left_as_it_is,
    measured,
    say_shared,
)
from video_snl.blocks.layer_widths import read_layers
from video_snl.blocks.layers import check_counts
from video_snl.blocks.layouts import GridOf, Layout, Pathway, Where, WithBlock, check_words
from video_snl.blocks.masks import check_mask, takes_mask
from video_snl.blocks.options import BlockOptions
from video_snl.blocks.places import (
    Site,
    bare_children,
    block_places,
    check_network,
    in_stages,
    inserted_blocks,
    parents_of,
    places_line,
    resolve,
)
from video_snl.blocks.sub_block import Described
from video_snl.blocks.user_blocks import check_block, made_by
from video_snl.blocks.zoo import make_block

__all__ = [
    "BlockFactory",
    "Layout",
    "Where",
    "WithBlock",
    "Wrapper",
    "block_places",
    "in_stages",
    "insert_blocks",
    "inserted_blocks",
    "mask_blocks",
    "remove_blocks",
]

BlockFactory = Callable[..., nn.Module]
Wrapper = Callable[[nn.Module, nn.Module, Where], WithBlock]

# They hold references to the parameters, or code, of the network as it was.
_WRAPPED_BY = {
    "DataParallel",
    "DDP",  # torch.distributed._composable.replicate
    "DistributedDataParallel",
    "FullyShardedDataParallel",
    "FSDPModule",
    "OptimizedModule",
    "ScriptModule",
}


def insert_blocks(
    model: nn.Module,
    block: str | type[nn.Module] | BlockFactory = "snl",
    positions: Sequence[str] = ("before:res4.-1",),
    *,
    example: Any = None,
    in_channels: int | None = None,
    layout: Layout | Literal["auto"] = "auto",
    pathway: Pathway | None = None,
    prefix_tokens: int = 0,
    grid: GridOf | None = None,
    inter_channels: int | None = None,
    num_units: int = 1,
    zero_init: bool = True,
    activation: Literal["relu"] | None = None,
    wrapper: Wrapper | None = None,
    **options: Unpack[BlockOptions],
) -> list[nn.Module]:
    """Insert a block at each position of ``model``, in place, and return the blocks.

    The numbers of channels and of axes are measured on ``example``, else read from the module's own
    layers, of which a copy is tried on maps without values. Device, dtype and training mode are
    those of the module there. A negative number counts the units of a stage from its end: the
    default is ``before:res4.5`` in a ResNet-50. Load weights of the bare network before the
    insertion; afterwards the parameters of a wrapped module have
    ``.module`` in their names. A module that stands, or is called, in several places has its block
    in all of them. Insert before DistributedDataParallel, FSDP or torch.compile. When an error is
    raised, ``model`` is unchanged.

    Args:
        model: network to change.
        block: name of a block of the zoo; a block of your own, as
            :class:`~video_snl.blocks.user_blocks.BlockProtocol` says, by its class or the dotted
            path of that; or a callable ``(in_channels, *, ndim, inter_channels, num_units,
            zero_init, activation, **options) -> nn.Module``, whose blocks are tried as those of
            a class are, unless there is a ``wrapper``.
        positions: positions as in the module's docstring, each at most once.
        example: input of the network, on which it is run once: a tensor or another single argument,
            a tuple of arguments or a dict of keyword arguments. In evaluation mode and without
            gradients; buffers and random state are as before afterwards. It is run again with the
            blocks in place, to see that each gets its feature maps.
        in_channels: number of channels at all positions, where there is no example.
        layout: order of the axes of the feature maps: ``"channels_first"`` (B, C, *grid),
            ``"channels_last"`` (B, *grid, C), ``"tokens"`` (B, P + N, C), ``"tokens_first"``
            (P + N, B, C), or ``"auto"``.
        pathway: index or key of the feature map, where the module takes (for a block before it) or
            returns (after it) several.
        prefix_tokens: P, tokens that stand for no position: class tokens, registers.
        grid: sizes of the grid of the tokens: (T, H, W) or (H, W), or a mapping that names the axes
            in the order in which the tokens are laid out, such as ``{"H": 14, "W": 14, "T": 8}``;
            a function of the module's arguments (after it: of what it returns) that gives one; None
            for a sequence.
        inter_channels, num_units, zero_init, activation, options: arguments of the block.
        wrapper: function that makes the :class:`WithBlock` of a module, its block and the side.

    Raises:
        ValueError: for no position, a malformed one, one that already has a block, or one that
            names no module of this network (the message names the nearest); channels, layout or
            pathway that cannot be told, or words that have no meaning for the layout; a model that
            is no module, or is wrapped or compiled already; an example that the network does not
            take; a module that the example does not call, or calls with maps of different shapes,
            or past the block; a callable that takes other arguments or makes no block, or one that
            does not fit.
    """
    check_network(model, "insert_blocks")
    positions = _checked_positions(positions)
    if not positions:
        raise ValueError(f"positions is empty, no block would be inserted. {places_line(model)}")
    if in_channels is not None:
        check_counts(in_channels=in_channels)
    if wrapper is not None and not callable(wrapper):
        raise ValueError(f"wrapper={wrapper!r}: expected a function that makes a WithBlock.")
    _check_bare(model)
    check_words(layout, prefix_tokens, grid, ("auto",))
    if isinstance(block, nn.Module):
        raise ValueError(
            f"block is a {type(block).__name__} that is made already: give its name or its class; "
            "weights go into the blocks that are returned, by load_block(..., into=)."
        )
    if isinstance(block, (str, type)):
        build = functools.partial(make_block, block)
    elif callable(block):
        # A wrapper of the caller's own decides which maps the blocks get.
        build = functools.partial(_made_by, block, wrapper is None)
    else:
        raise ValueError(
            f"block={block!r}: expected the name of a block, a class of torch.nn.Module, or a "
            "function that makes a block."
        )
    sites = resolve(model, positions)
    told = Told(layout, in_channels, pathway, prefix_tokens, grid)
    if example is None:
        found = [read_layers(model, site, where, told) for site, where in sites]
    else:
        try:
            found = measured(model, sites, example, told)
        except Exception:
            _check_example(model, example)  # which may be the reason
            raise
    blocks = []
    for (site, _), at in zip(sites, found, strict=True):
        check_words(at.layout, prefix_tokens, grid)
        new = build(
            at.channels,
            ndim=at.ndim,
            inter_channels=inter_channels,
            num_units=num_units,
            zero_init=zero_init,
            activation=activation,
            **options,
        )
        like = next(site.module.parameters(), next(model.parameters(), torch.empty(0)))
        blocks.append(new.to(like.device, like.dtype).train(site.module.training))
    # All that may fail comes first: wrappers, and warnings, which may be errors.
    places = parents_of(model)
    outer: dict[int, nn.Module] = {
        id(site.module): getattr(site.parent, site.name) for site, _ in sites
    }
    wrappers = []
    for (site, where), at, new in zip(sites, found, blocks, strict=True):
        present = outer[id(site.module)]
        if wrapper is not None:
            wrapped = wrapper(present, new, where)
        else:
            wrapped = WithBlock(
                present,
                new,
                where,
                layout=at.layout,
                pathway=pathway,
                prefix_tokens=prefix_tokens,
                grid=grid,
            )
        if not isinstance(wrapped, WithBlock):
            raise TypeError(f"wrapper= made a {type(wrapped).__name__}, no WithBlock.")
        wrapped.checked = example is not None
        outer[id(site.module)] = wrapped
        wrappers.append(wrapped)
        if len(places[id(site.module)]) > 1:
            say_shared(site.bare, f"stands in {len(places[id(site.module)])} places")
    children = [(*place, outer[module]) for module in outer for place in places[module]]
    bare = [parent._modules[name] for parent, name, _ in children]
    for parent, name, outermost in children:
        parent._modules[name] = outermost
    _keep_dense(model)
    try:
        if example is not None:
            _check_called(model, sites, found, wrappers, example)
    except BaseException:
        for (parent, name, _), child in zip(children, bare, strict=True):
            parent._modules[name] = child
        _keep_dense(model)
        raise
    return blocks


def remove_blocks(model: nn.Module) -> dict[str, nn.Module]:
    """Take all inserted blocks out of ``model``, in place, and return them by position.

    The network is then as it was before the insertion, and so are the names of its parameters.

    Raises:
        ValueError: ``model`` is no module.
    """
    check_network(model, "remove_blocks")
    blocks = inserted_blocks(model)
    for parent, name, module in list(bare_children(model)):
        parent._modules[name] = module
    _keep_dense(model)
    return blocks


def _checked_positions(positions: Any) -> list[str]:
    """Return positions as a list."""
    if isinstance(positions, str):
        raise ValueError(f"positions={positions!r} is one text: give a list, [{positions!r}].")
    found = list(positions) if isinstance(positions, Iterable) else None
    wrong = [each for each in found or () if not isinstance(each, str)]
    if found is None or wrong:
        which = f"{wrong[0]!r} in it" if wrong else f"a {type(positions).__name__}"
        raise ValueError(
            f"positions={positions!r}: expected a list of texts, such as before:res4.5, got "
            f"{which}."
        )
    return found


def _made_by(
    factory: BlockFactory, tried: bool, in_channels: int, *, ndim: int, **options: Any
) -> nn.Module:
    """Make a block by a user's own function; where ``tried``, see that it fits the maps.

    The function's own errors pass, as its author knows them best.
    """
    name = getattr(factory, "__qualname__", type(factory).__qualname__)
    said = f"the block of {name}(in_channels={in_channels}, ndim={ndim}, ...)"
    make = functools.partial(factory, in_channels, ndim=ndim, **options)
    block = made_by(make, said, (TypeError, SystemExit))
    if not tried:
        return block
    if not isinstance(block, Described):
        check_block(block, said, in_channels, ndim)
    # The trial's map may be too small for one of ours, which has large windows to pool.
    elif (block.in_channels, block.ndim) != (in_channels, ndim):
        raise ValueError(
            f"{said} is a {type(block).__name__} of in_channels={block.in_channels} and "
            f"ndim={block.ndim}."
        )
    return block


def _check_example(model: nn.Module, example: Any) -> None:
    """Run a network without blocks on an example.

    Raises:
        ValueError: It does not take the example.
    """
    arguments, options = arguments_of(example)
    try:
        with left_as_it_is(model):
            model(*arguments, **options)
    except Exception as error:
        raise ValueError(
            "example= is no input of this network, which fails on it without any new block: "
            f"{type(error).__name__}: {error}"
        ) from error


def _check_called(
    model: nn.Module,
    sites: Sequence[tuple[Site, Where]],
    found: Sequence[FeatureMap],
    wrappers: Sequence[WithBlock],
    example: Any,
) -> None:
    """Run the network with its wrappers, and see that their blocks get the maps of the bare one.

    The blocks are not applied in it, so that all values are those of the bare network.

    Raises:
        ValueError: the network passes a block by, or does not run any more.
    """
    arguments, options = arguments_of(example)
    places = ", ".join(f"'{where}:{site.bare}'" for site, where in sites)
    with _noted(wrappers) as calls:
        try:
            with left_as_it_is(model):
                model(*arguments, **options)
        except Exception as error:
            raise ValueError(
                f"positions=[{places}]: the network does not run with a module wrapped there "
                f"({type(error).__name__}: {error}): choose other modules."
            ) from error
        for (site, where), at, wrapper, seen in zip(sites, found, wrappers, calls, strict=True):
            if tuple(seen) != at.calls:
                raise ValueError(
                    f"positions=['{where}:{site.bare}']: the block would be passed by. The example "
                    f"calls this {type(site.module).__name__} {len(at.calls)} times, and "
                    f"{len(seen)} of these reach the block: {_passed_by(model, site, wrapper)} "
                    "Choose another module."
                )


def _passed_by(model: nn.Module, site: Site, wrapper: WithBlock) -> str:
    """Say how a network calls a module past its wrapper."""
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            items = value.values() if isinstance(value, dict) else value
            plain = isinstance(value, (list, tuple, dict)) and name != "_modules"
            if plain and any(item is site.module for item in items):
                held = f"{path}.{name}".lstrip(".")
                return f"{held} is a plain {type(value).__name__} that holds the module itself."
    if wrapper.parts:
        return f"the network uses its {', '.join(wrapper.parts)} directly."
    return "the network keeps the module in another place than its children."


@contextmanager
def _noted(wrappers: Sequence[WithBlock]) -> Iterator[list[list[torch.Size]]]:
    """Let wrappers note the maps of their blocks, without applying these."""
    calls: list[list[torch.Size]] = [[] for _ in wrappers]
    try:
        for wrapper, own in zip(wrappers, calls, strict=True):
            wrapper.calls, wrapper.parts = own, ()
        yield calls
    finally:
        for wrapper in wrappers:
            wrapper.calls, wrapper.parts = None, ()


def _keep_dense(model: nn.Module) -> None:
    """Let encoders of torch pass nested tensors to their layers only where none has a block.

    They make these in evaluation mode of what a mask of padding leaves, and a block takes none.
    """
    for encoder in model.modules():
        if isinstance(encoder, nn.TransformerEncoder):
            blocks = any(isinstance(module, WithBlock) for module in encoder.modules())
            own = encoder.__dict__
            if blocks and own.get("use_nested_tensor"):
                own["use_nested_tensor"], own["nested_without_blocks"] = False, True
            elif not blocks and own.pop("nested_without_blocks", False):
                own["use_nested_tensor"] = True


@contextmanager
def mask_blocks(model: nn.Module, mask: Tensor | Sequence[Tensor]) -> Iterator[None]:
    """Tell the inserted blocks of a network which positions exist, for the forward passes within.

    The layers of the network do not know of the mask: where they look at several positions, what
    is fed in where none exists reaches those beside it, so that zeros belong there.

    Args:
        model: network with inserted blocks.
        mask: boolean, True where a position exists: (B, T) frames of clips, or (B, *grid) of the
            input or of any map after it. Where a block stands on a smaller grid, a position of it
            exists where any position exists in its share of the grid. That is not always what the
            network made it of, where kernels are wider than their stride or padded, or the stride
            does not divide the grid: then give a list of masks, one for each size of the grids at
            the blocks.

    Raises:
        ValueError: ``model`` is no module, no block is inserted, or one takes no mask; a mask that
            is not boolean or has no axes of positions. In a forward pass: a mask that does not fit
            the grid of a block.
    """
    check_network(model, "mask_blocks")
    masks: Sequence[Any] = mask if isinstance(mask, (list, tuple)) else [mask]
    if not masks:
        raise ValueError("mask_blocks: the list of masks is empty; give one for each size of grid.")
    for each in masks:
        check_mask(each)
        if not 2 <= each.ndim <= 4:
            raise ValueError(
                f"mask has the shape {tuple(each.shape)}; (B, T) of frames or (B, *grid) with 1 to "
                "3 axes was expected."
            )
    wrappers = [module for module in model.modules() if isinstance(module, WithBlock)]
    if not wrappers:
        raise ValueError("mask_blocks: no block is inserted in this network: insert_blocks first.")
    for wrapper in wrappers:
        if not takes_mask(wrapper.block):
            raise ValueError(
                f"mask_blocks: {type(wrapper.block).__name__}.forward takes no mask=, so that it "
                "would look at positions that do not exist."
            )
    try:
        for wrapper in wrappers:
            wrapper.mask = mask
        yield
    finally:
        for wrapper in wrappers:
            wrapper.mask = None


def _check_bare(model: nn.Module) -> None:
    for path, module in model.named_modules():
        names = {c.__name__ for c in type(module).__mro__ if c.__module__.startswith("torch.")}
        found = sorted(names & _WRAPPED_BY)
        if not found and getattr(module, "_compiled_call_impl", None) is not None:
            found = ["torch.compile"]
        if found:
            where = f"{path} of the model" if path else "the model"
            raise ValueError(
                f"{where} is wrapped by {found[0]} already, which would not see the blocks: insert "
                "them into the bare network, then wrap it."
            )
