"""The index arithmetic of clips, as tables and as properties."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from video_snl.data.video.clip_sampling import (
    ClipRule,
    ShortVideoError,
    centre_clip,
    clip_span,
    random_clip,
    random_segment_clip,
    segment_clips,
    uniform_clips,
)

frames_ = st.integers(1, 40)
strides = st.integers(1, 8)
lengths = st.integers(1, 400)
policies = st.sampled_from(["repeat_last", "wrap"])
units = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize(
    ("frames", "stride", "span"), [(1, 1, 1), (1, 9, 1), (16, 1, 16), (16, 2, 31), (8, 8, 57)]
)
def test_span(frames, stride, span):
    assert clip_span(frames, stride) == span


@pytest.mark.parametrize(
    ("length", "frames", "stride", "u", "indices"),
    [
        (10, 4, 1, 0.0, [0, 1, 2, 3]),
        (10, 4, 1, 0.5, [3, 4, 5, 6]),  # 7 starts
        (10, 4, 1, 0.999, [6, 7, 8, 9]),
        (10, 4, 2, 0.999, [3, 5, 7, 9]),
        (10, 4, 3, 0.999, [0, 3, 6, 9]),
        (4, 4, 1, 0.7, [0, 1, 2, 3]),
        (1, 1, 5, 0.7, [0]),
    ],
)
def test_random_clip(length, frames, stride, u, indices):
    assert random_clip(length, frames, stride, u, "error") == indices


@pytest.mark.parametrize(
    ("length", "frames", "stride", "indices"),
    [
        (10, 4, 1, [3, 4, 5, 6]),
        (11, 4, 1, [3, 4, 5, 6]),
        (12, 4, 1, [4, 5, 6, 7]),
        (10, 4, 2, [1, 3, 5, 7]),
        (4, 4, 1, [0, 1, 2, 3]),
    ],
)
def test_centre_clip(length, frames, stride, indices):
    assert centre_clip(length, frames, stride, "error") == indices


@pytest.mark.parametrize(
    ("length", "frames", "count", "starts"),
    [
        (10, 4, 0, []),
        (10, 4, 1, [3]),
        (10, 4, 2, [0, 6]),
        (10, 4, 3, [0, 3, 6]),
        (10, 4, 4, [0, 2, 4, 6]),
        (11, 4, 3, [0, 4, 7]),  # 3.5 rounds up
        (5, 4, 4, [0, 0, 1, 1]),
        (4, 4, 3, [0, 0, 0]),
        (29, 16, 10, [0, 1, 3, 4, 6, 7, 9, 10, 12, 13]),
    ],
)
def test_uniform_clips(length, frames, count, starts):
    clips = uniform_clips(length, frames, 1, count, "error")
    assert [clip[0] for clip in clips] == starts
    assert all(clip == list(range(clip[0], clip[0] + frames)) for clip in clips)


@pytest.mark.parametrize(
    ("length", "stride", "policy", "indices"),
    [
        (3, 1, "repeat_last", [0, 1, 2, 2, 2]),
        (3, 1, "wrap", [0, 1, 2, 0, 1]),
        (3, 2, "repeat_last", [0, 2, 2, 2, 2]),
        (3, 2, "wrap", [0, 2, 1, 0, 2]),
        (1, 4, "repeat_last", [0] * 5),
        (1, 4, "wrap", [0] * 5),
        (8, 2, "repeat_last", [0, 2, 4, 6, 7]),  # one frame short
        (8, 2, "wrap", [0, 2, 4, 6, 0]),
    ],
)
def test_short_video(length, stride, policy, indices):
    assert random_clip(length, 5, stride, 0.9, policy) == indices
    assert centre_clip(length, 5, stride, policy) == indices
    assert uniform_clips(length, 5, stride, 2, policy) == [indices, indices]


@pytest.mark.parametrize("policy", ["error", "repeat_last", "wrap"])
def test_video_without_frames(policy):
    with pytest.raises(ShortVideoError, match="spans 5 frames, the video has 0"):
        centre_clip(0, 5, 1, policy)


@pytest.mark.parametrize(
    "choose",
    [
        lambda: random_clip(30, 16, 2, 0.5, "error"),
        lambda: centre_clip(30, 16, 2, "error"),
        lambda: uniform_clips(30, 16, 2, 3, "error"),
    ],
)
def test_short_video_is_an_error(choose):
    with pytest.raises(ShortVideoError) as caught:
        choose()
    assert (caught.value.span, caught.value.length) == (31, 30)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: clip_span(0, 1),
        lambda: clip_span(4, 0),
        lambda: random_clip(10, 4, 1, 1.0, "error"),
        lambda: random_clip(10, 4, 1, -0.1, "error"),
        lambda: uniform_clips(10, 4, 1, -1, "error"),
        lambda: random_segment_clip(10, 2, [0.5], "error"),
        lambda: random_segment_clip(10, 2, [0.5, 1.0], "error"),
        lambda: segment_clips(10, 4, -1, "error"),
    ],
)
def test_wrong_arguments(wrong):
    with pytest.raises(ValueError, match="not"):
        wrong()


@given(lengths, frames_, strides, units, policies)
def test_clips_stay_in_the_video(length, frames, stride, u, policy):
    clips = [
        random_clip(length, frames, stride, u, policy),
        centre_clip(length, frames, stride, policy),
        *uniform_clips(length, frames, stride, 5, policy),
    ]
    for clip in clips:
        assert len(clip) == frames
        assert all(0 <= index < length for index in clip)
        if length >= clip_span(frames, stride):
            assert clip == list(range(clip[0], clip[0] + clip_span(frames, stride), stride))


@given(frames_, strides, st.integers(0, 50))
def test_every_start_is_drawn(frames, stride, spare):
    length = clip_span(frames, stride) + spare
    starts = [
        random_clip(length, frames, stride, (i + 0.5) / (spare + 1), "error")[0]
        for i in range(spare + 1)
    ]
    assert starts == list(range(spare + 1))


@given(frames_, strides, st.integers(0, 300), st.integers(2, 20))
def test_uniform_clips_reach_both_ends_evenly(frames, stride, spare, count):
    length = clip_span(frames, stride) + spare
    clips = uniform_clips(length, frames, stride, count, "error")
    starts = [clip[0] for clip in clips]
    gaps = [b - a for a, b in zip(starts, starts[1:], strict=False)]
    assert (starts[0], clips[-1][-1]) == (0, length - 1)
    assert max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize(
    ("length", "frames", "u", "indices"),
    [
        (12, 4, 0.0, [0, 3, 6, 9]),
        (12, 4, 0.5, [1, 4, 7, 10]),
        (12, 4, 0.999, [2, 5, 8, 11]),
        (10, 4, 0.0, [0, 2, 5, 7]),  # segments of 2, 3, 2 and 3 frames
        (10, 4, 0.999, [1, 4, 6, 9]),
        (4, 4, 0.999, [0, 1, 2, 3]),
        (7, 1, 0.5, [3]),
    ],
)
def test_random_segment_clip(length, frames, u, indices):
    assert random_segment_clip(length, frames, [u] * frames, "error") == indices


@pytest.mark.parametrize(
    ("length", "frames", "count", "clips"),
    [
        (12, 4, 0, []),
        (12, 4, 1, [[1, 4, 7, 10]]),
        (16, 4, 1, [[2, 6, 10, 14]]),
        (16, 4, 2, [[1, 5, 9, 13], [3, 7, 11, 15]]),
        (12, 4, 3, [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]]),
        (4, 4, 2, [[0, 1, 2, 3]] * 2),
        (10, 4, 1, [[1, 3, 6, 8]]),
    ],
)
def test_segment_clips(length, frames, count, clips):
    assert segment_clips(length, frames, count, "error") == clips


@pytest.mark.parametrize(
    ("policy", "indices"), [("repeat_last", [0, 1, 2, 2, 2]), ("wrap", [0, 1, 2, 0, 1])]
)
def test_video_shorter_than_the_segments(policy, indices):
    assert random_segment_clip(3, 5, [0.9] * 5, policy) == indices
    assert segment_clips(3, 5, 2, policy) == [indices, indices]
    assert segment_clips(3, 5, 0, policy) == []
    for length in (0, 3):
        for choose in (
            lambda n: random_segment_clip(n, 5, [0.9] * 5, "error"),
            lambda n: segment_clips(n, 5, 1, "error"),
        ):
            with pytest.raises(ShortVideoError) as caught:
                choose(length)
            assert (caught.value.span, caught.value.length) == (5, length)
    with pytest.raises(ShortVideoError):
        segment_clips(0, 5, 1, policy)


@given(lengths, frames_, st.data())
def test_uniform_clip_has_one_frame_of_every_segment(length, frames, data):
    u = data.draw(st.lists(units, min_size=frames, max_size=frames))
    count = data.draw(st.integers(1, 12))
    assume(length >= frames)
    for clip in [random_segment_clip(length, frames, u, "error")] + segment_clips(
        length, frames, count, "error"
    ):
        for i, index in enumerate(clip):
            assert i * length // frames <= index < (i + 1) * length // frames


@given(st.integers(1, 20), st.integers(1, 12), st.integers(1, 12))
def test_uniform_clips_take_turns(frames, per_segment, count):
    """Every frame of a segment comes up, and equally often where they divide."""
    clips = segment_clips(frames * per_segment, frames, count, "error")
    for column in zip(*clips, strict=True):
        gaps = [b - a for a, b in zip(column, column[1:], strict=False)]
        assert all(gap >= 0 for gap in gaps) and (not gaps or max(gaps) - min(gaps) <= 1)
        if count % per_segment == 0:
            assert all(column.count(i) == count // per_segment for i in set(column))
            assert len(set(column)) == per_segment


@given(st.integers(1, 12), st.integers(0, 40))
def test_every_frame_of_a_segment_is_drawn(frames, spare):
    length = frames + spare
    seen = {
        index
        for i in range(length)
        for index in random_segment_clip(length, frames, [(i + 0.5) / length] * frames, "error")
    }
    assert seen == set(range(length))


@given(lengths, frames_, strides, units, policies, st.integers(0, 5))
def test_rule_is_the_functions(length, frames, stride, u, policy, count):
    dense = ClipRule(frames, stride, "dense", policy)
    assert dense.draws == 1
    assert dense.random(length, [u]) == random_clip(length, frames, stride, u, policy)
    assert dense.centre(length) == centre_clip(length, frames, stride, policy)
    assert dense.several(length, count) == uniform_clips(length, frames, stride, count, policy)
    uniform = ClipRule(frames, 1, "uniform", policy)
    numbers = [u] * uniform.draws
    assert uniform.random(length, numbers) == random_segment_clip(length, frames, numbers, policy)
    assert uniform.several(length, count) == segment_clips(length, frames, count, policy)
    assert [uniform.centre(length)] == segment_clips(length, frames, 1, policy)
