"""The page of an evaluation: its numbers by plain loops, what it shows, and how it is used."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

from tests.browsers import chromium
from tests.videos import write_video
from video_snl.commands.evaluation_page import About, Samples, choose_shown, write_evaluation_page
from video_snl.commands.intervals import (
    bootstrap,
    calibration_bins,
    calibration_error,
    mcnemar,
    wilson,
)
from video_snl.data.video.recordings import recordings_of
from video_snl.render.film_strips import Strip, video_strips

HOSTILE = "<script>alert('x')</script>\"&<b>"


def samples_of(
    videos: list[str], names: list[str], *, unread: tuple[int, ...] = (), seed: int = 0
) -> Samples:
    """Samples with made-up scores, of which about half are right."""
    random = np.random.default_rng(seed)
    label = np.arange(len(videos)) % len(names)
    logits = random.normal(size=(len(videos), len(names)))
    logits[np.arange(len(videos)), label] += 1.5 if len(names) < 10 else 4
    scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    read = np.array([index not in unread for index in range(len(videos))])
    scores[~read] = np.nan
    levels = {"clip": scores[:, ::-1].astype(np.float32), "video": scores.astype(np.float32)}
    return Samples("video", videos, names, label, read, np.ones_like(read), levels)


def about(title: str = "Evaluation") -> About:
    return About(title, "Some facts.", {"data": {"crop": 32}}, "video-snl evaluate --clips 2")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("videos")
    paths = [str(write_video(folder / f"v{index}.avi", frames=6)) for index in range(6)]
    (folder / "broken.avi").write_bytes(b"nothing")
    return [*paths, str(folder / "broken.avi")]


@pytest.fixture(scope="module")
def page(videos: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluation")
    samples = samples_of(videos * 6, ["Bow", HOSTILE, "Dive"], unread=(2,))

    def draw(indices: list[int]) -> dict[int, Strip]:
        drawn = video_strips([videos[index % len(videos)] for index in indices])
        return {index: drawn[videos[index % len(videos)]] for index in indices}

    return write_evaluation_page(folder, samples, about(HOSTILE), draw, 20)


def test_wilson_solves_its_equation() -> None:
    """Its ends are the shares that lie z standard errors of their own from what was found."""
    for right, total in ((3, 10), (97, 100), (1, 2), (40, 193)):
        for end in wilson(right, total):
            z = abs(right / total - end) / math.sqrt(end * (1 - end) / total)
            assert z == pytest.approx(1.959963984540054, rel=1e-9)
    assert wilson(0, 5).low == 0 and wilson(5, 5).high == 1 and wilson(0, 0) == (0, 1)


def naive_bootstrap(
    ours: np.ndarray, base: np.ndarray, groups: list[int], same: bool, resamples: int
) -> tuple[float, float]:
    random, names, values = np.random.default_rng(5), sorted(set(groups)), []
    for _ in range(resamples):
        chosen = [names[random.integers(len(names))] for _ in names]
        members = [i for name in chosen for i, group in enumerate(groups) if group == name]
        first = [random.integers(len(ours)) for _ in ours]
        second = first if same else [random.integers(len(base)) for _ in base]
        shares = [
            sum(side[seed, i] for seed in seeds for i in members) / len(members) / len(seeds)
            for side, seeds in ((ours, first), (base, second))
        ]
        values.append(shares[0] - shares[1])
    values.sort()
    return values[round(0.025 * resamples)], values[round(0.975 * resamples)]


@pytest.mark.parametrize("same", [True, False])
def test_bootstrap_is_that_of_plain_loops(same: bool) -> None:
    random = np.random.default_rng(0)
    groups = random.integers(0, 9, size=40).tolist()
    ease = random.random(9)
    ours = np.array([[random.random() < ease[g] * 0.9 for g in groups] for _ in range(3)])
    base = np.array([[random.random() < ease[g] * 0.6 for g in groups] for _ in range(3)])
    expected = naive_bootstrap(ours, base, groups, same, 1500)
    found = bootstrap(ours, base, groups=groups, same_seeds=same)
    width = expected[1] - expected[0]
    assert found == pytest.approx(expected, abs=0.12 * width)
    assert found == bootstrap(ours, base, groups=groups, same_seeds=same)


def test_recordings_widen_the_interval() -> None:
    right = np.repeat([1, 0, 1, 1, 0, 1, 0, 1, 1, 1], 8)
    groups = np.repeat(np.arange(10), 8).tolist()
    alone, together = bootstrap(right), bootstrap(right, groups=groups)
    assert together.high - together.low > 2 * (alone.high - alone.low)
    assert bootstrap(np.ones(7)) == (1, 1)
    # Of single samples it is the binomial's own interval.
    assert alone == pytest.approx(wilson(int(right.sum()), len(right)), abs=0.02)


def test_mcnemar_adds_up_the_binomial() -> None:
    first = np.array([1] * 9 + [0] * 4 + [1] * 20 + [0] * 5)
    second = np.array([0] * 9 + [1] * 4 + [1] * 20 + [0] * 5)
    tail = sum(math.comb(13, k) for k in range(5)) / 2**13
    assert mcnemar(first, second) == (9, 4, pytest.approx(2 * tail))
    assert mcnemar(second, first).p == pytest.approx(2 * tail)
    assert mcnemar(first, first) == (0, 0, 1.0)


def test_calibration_error_is_that_of_plain_loops() -> None:
    random = np.random.default_rng(0)
    confidence = np.append(random.random(200), [0.0, 1.0, 0.2])
    right = random.random(203) < confidence**2
    expected = 0.0
    for index in range(15):
        members = [
            i
            for i, score in enumerate(confidence)
            if index / 15 < score <= (index + 1) / 15 or (index == 0 and score == 0)
        ]
        if members:
            gap = sum(float(right[i]) - float(confidence[i]) for i in members)
            expected += abs(gap) / len(confidence)
    assert calibration_error(calibration_bins(confidence, right)) == pytest.approx(expected)
    assert calibration_error(calibration_bins([], [])) is None


def test_recordings_are_known_by_name_or_by_the_list_of_the_run(tmp_path: Path) -> None:
    paths = ["/d/Bow/v_Bow_g01_c01.avi", "/d/Bow/v_Bow_g01_c02.avi", "/d/Clap/v_Clap_g01_c01.avi"]
    found = recordings_of([*paths, "/d/x.avi"])
    assert found is not None and found[0] == found[1] and len(set(found)) == 3
    assert recordings_of(["/d/a.avi", "/d/b.avi"]) is None
    text = "path,label,split,group\nBow/a.avi,Bow,test,monday\nb.avi,Bow,test,\n"
    (tmp_path / "split.csv").write_text(text)
    others = ["/e/Bow/a.avi", "/e/b.avi"]
    assert recordings_of(others, tmp_path) == ["monday", "file /e/b.avi"]
    assert recordings_of(others, tmp_path, {others[1]: "friday"}) == ["monday", "friday"]


def test_shown_are_the_surest_mistakes_and_some_of_every_cell() -> None:
    samples = samples_of([f"{i}.avi" for i in range(200)], ["Bow", "Clap", "Dive"])
    shown = choose_shown(samples, 40)
    assert len(shown) == len(set(shown)) == 40
    wrong = [i for i in range(200) if samples.predicted[i] != samples.label[i]]
    surest = sorted(wrong, key=lambda i: -samples.confidence[i])
    assert shown[:12] == surest[:12]
    assert {(samples.label[i], samples.predicted[i]) for i in shown} == set(samples.cells)
    assert choose_shown(samples, 0) == []


def test_page_needs_nothing_else_and_escapes_names(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert HOSTILE not in text and "alert(&#39;x&#39;)" in text
    assert not re.search(r"url\(|@import|https?://|file:", text)
    assert len(re.findall(r"<script", text)) == 2
    for tag in re.findall(r"<img[^>]*>", text):
        assert 'src="data:image/jpeg;base64,' in tag and re.search(r'alt="[^"]+"', tag), tag[:200]
    assert "no image: " in text  # of the broken file
    data = json.loads(re.findall(r'id="samples">(.*?)</script>', text, re.DOTALL)[0])
    listed = [each for cell in data["cells"].values() for each in cell["samples"]]
    assert len(listed) == sum(cell["count"] for cell in data["cells"].values()) == 41
    assert text.count("data:image/jpeg") <= 20
    assert "counted as wrong: 1" in text and "broken.avi" in text


def test_many_classes_stay_bounded(tmp_path: Path) -> None:
    names = [f"Class{index}" for index in range(101)]
    samples = samples_of([f"/videos/{index}.avi" for index in range(3000)], names)
    path = write_evaluation_page(tmp_path, samples, about(), lambda _: {}, 0)
    assert path.stat().st_size < 1_500_000
    more = samples_of([f"/videos/{i}.avi" for i in range(400)], [f"C{i}" for i in range(200)])
    text = write_evaluation_page(tmp_path, more, about(), lambda _: {}, 0).read_text()
    assert "too many classes" in text and 'class="matrix' not in text


def test_cells_open_by_mouse_and_keys_and_tables_sort(page: Path) -> None:
    with chromium() as browser:
        opened = browser.new_page(viewport={"width": 420, "height": 900})
        problems: list[str] = []
        opened.on("console", lambda message: problems.append(message.text))
        opened.on("pageerror", lambda error: problems.append(str(error)))
        opened.goto(page.as_uri())
        assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")
        cell = opened.locator('#matrix button[data-cell="0,0"]')
        cell.click()
        panel = opened.locator("#cell")
        assert panel.locator("h3").inner_text().startswith("Bow, recognised: ")
        assert panel.locator("img").count() >= 1
        opened.keyboard.press("Escape")
        opened.keyboard.press("ArrowRight")
        opened.keyboard.press("Enter")
        assert f"Bow, taken for {HOSTILE}" in panel.locator("h3").inner_text()
        rows = "[...document.querySelectorAll('table.sortable tbody tr')]"
        rights = f"{rows}.map(row => row.cells[2].innerText)"
        button = opened.locator("table.sortable button.sort", has_text="right")
        button.click()
        ascending = list(map(int, opened.evaluate(rights)))
        button.click()
        assert list(map(int, opened.evaluate(rights))) == ascending[::-1] == sorted(ascending)[::-1]
        assert problems == []
