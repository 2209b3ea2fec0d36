"""Epochs of a chosen length."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from video_snl.data.loading.samplers import EpochSampler, Key, SpanSampler


def keys_of(sampler: EpochSampler | SpanSampler, epochs: int) -> list[Key]:
    found: list[Key] = []
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        keys = list(sampler)
        assert len(keys) == len(sampler)
        found += keys
    return found


@given(length=st.integers(1, 30), span=st.integers(1, 40), epochs=st.integers(1, 5))
def test_spans_are_whole_passes_put_end_to_end(length: int, span: int, epochs: int) -> None:
    found = keys_of(SpanSampler(length, span, seed=3), epochs)
    passes = keys_of(EpochSampler(length, seed=3), -(-len(found) // length))
    assert found == passes[: len(found)]


@given(length=st.integers(1, 30), steps=st.integers(1, 5), world=st.integers(1, 4))
def test_ranks_share_a_span(length: int, steps: int, world: int) -> None:
    span = steps * world
    whole = keys_of(SpanSampler(length, span, seed=0), 3)
    parts = [keys_of(SpanSampler(length, span, 0, rank, world), 3) for rank in range(world)]
    assert [key for row in zip(*parts, strict=True) for key in row] == whole
