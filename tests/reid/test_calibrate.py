"""``reid calibrate`` and the thresholds of ``reid search``: what they print, write and refuse."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import beta

from reid.metrics.open_set import open_set_of_features
from reid.retrieval.calibration import (
    NO_PROBABILITIES,
    calibrate,
    interval_of,
    measure,
    read_calibration,
)
from reid.retrieval.features import FeatureTable, concatenate, read_features, write_features
from tests.reid.galleries import kept_in
from tests.reid.little import run
from tests.tiny import environment
from video_snl.errors import UserError

PERSONS, STRANGERS = 200, 30


def table(names: list[str], persons: np.ndarray, features: np.ndarray, camera: int) -> FeatureTable:
    count = len(names)
    return FeatureTable(
        names=names,
        person_ids=persons,
        camera_ids=np.full(count, camera),
        num_frames=np.ones(count, np.int64),
        skipped_frames=np.zeros(count, np.int64),
        features=features.astype(np.float32),
        model="a" * 64,
        checkpoint="runs/a/checkpoints/best.ckpt",
        persons=[str(person) for person in persons],
        cameras=[str(camera)] * count,
    )


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """Features of 200 people under two cameras, and of 30 whom the gallery does not show."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(PERSONS + STRANGERS + 1, 32))
    made = {}
    known, new = np.arange(1, PERSONS + 1), np.arange(PERSONS + 1, PERSONS + STRANGERS + 1)
    for name, persons, camera in (("query", known, 0), ("gallery", known, 1), ("new", new, 0)):
        noise = 0.5 * random.normal(size=(len(persons), 32))
        rows = table([f"{name}/{p}" for p in persons], persons, centres[persons] + noise, camera)
        made[name] = str(tmp_path / f"{name}.parquet")
        write_features(made[name], rows)
    return made


@pytest.fixture
def calibration(files: dict[str, str], tmp_path: Path) -> str:
    path = str(tmp_path / "calibration.json")
    words = ["--gallery", files["gallery"], "-o", path, "--false_alarms", "0.1"]
    done = run("calibrate", files["query"], *words)
    assert done.returncode == 0, done.stderr
    return path


def test_what_is_printed_and_written(files: dict[str, str], calibration: str) -> None:
    query, gallery = (read_features(files[name]) for name in ("query", "gallery"))
    labels = query.person_ids, gallery.person_ids, query.camera_ids, gallery.camera_ids
    expected = open_set_of_features(query.features, gallery.features, *labels)
    stored = read_calibration(calibration)
    assert stored.threshold == expected.threshold(0.1)
    assert (stored.searches, stored.identities, stored.entries) == (200, 200, 200)
    assert stored.interval[0] <= stored.threshold <= stored.interval[1]
    assert stored.rate == 0.1 and stored.rate_interval == interval_of(20, 200)
    assert stored.rate_interval == pytest.approx(beta.ppf([0.025, 0.975], [20, 21], [181, 180]))
    np.testing.assert_array_equal(stored.others, np.sort(expected.others))
    assert list(stored.query) == [files["query"]] and len(stored.gallery[files["gallery"]]) == 64
    words = ["--gallery", files["gallery"], "--json"]
    values = json.loads(run("calibrate", files["query"], *words).stdout)
    assert values["impostor_trials"] == 200 * 199 and values["genuine_trials"] == 200
    assert [row["tar_at_far"] is None for row in values["rates"]] == [False, False, False, True]
    assert [row["threshold"] is None for row in values["rates"]] == [False, True, True, True]
    assert values["rates"][0]["dir_at_false_alarm_rate"] == stored.detection_rate
    assert values["chosen"] is None and values["scores"] == NO_PROBABILITIES
    said = run("calibrate", files["query"], "--gallery", files["gallery"]).stdout
    assert said.count("not measurable") == 4 and NO_PROBABILITIES in said
    assert "neither trained on nor tested on" in said


def test_the_share_of_strangers_that_come_as_near(calibration: str) -> None:
    stored = read_calibration(calibration)
    for distance in (0.0, float(stored.others[5]), stored.threshold, 2.0):
        near = sum(value <= np.float32(distance) for value in stored.others)
        assert stored.false_alarm_rate(distance) == (1 + near) / 201


def test_who_is_not_in_the_gallery(files: dict[str, str], calibration: str) -> None:
    words = ["--gallery", files["gallery"], "--calibrate", calibration, "--top", "3"]
    threshold = read_calibration(calibration).threshold
    answers = json.loads(run("search", files["query"], files["new"], *words, "--json").stdout)
    assert answers["threshold"] == threshold
    assert "false-alarm rate of 10.00%" in answers["scores"]
    for query in answers["queries"]:
        near = query["results"][0]["distance"]
        assert query["in_gallery"] == (near <= threshold)
        assert 0 < query["false_alarm_rate"] <= 1
        assert query["in_gallery"] == (query["false_alarm_rate"] <= 21 / 201)
    there = [query["in_gallery"] for query in answers["queries"]]
    assert sum(there[:PERSONS]) > 180 and sum(there[PERSONS:]) < 10
    said = run("search", files["new"], *words).stdout
    assert said.count("not in the gallery: the nearest, at ") == STRANGERS - sum(there[PERSONS:])
    assert said.count(f"----  beyond the threshold {threshold:.4f}") == STRANGERS


def test_a_threshold_without_calibration(files: dict[str, str]) -> None:
    words = ["--gallery", files["gallery"], "--threshold", "0.25"]
    answers = json.loads(run("search", files["query"], *words, "--json").stdout)
    for query in answers["queries"]:
        assert query["in_gallery"] == (query["results"][0]["distance"] <= 0.25)
        assert query["false_alarm_rate"] is None
    plain = run("search", files["query"], *words[:2])
    for said in (answers["scores"], plain.stdout):
        assert NO_PROBABILITIES in said and "reid calibrate" in said
    assert "in the gallery" not in plain.stdout and "----" not in plain.stdout
    answers = json.loads(run("search", files["query"], *words[:2], "--json").stdout)
    assert answers["threshold"] is None and answers["queries"][0]["in_gallery"] is None


@pytest.mark.parametrize("kind", ["folder", "postgres"])
def test_galleries_that_are_kept_know_who_is_not_there(
    kind: str,
    files: dict[str, str],
    calibration: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    """Calibrated and searched as the feature file is, by both commands."""
    place = kept_in(kind, tmp_path, request)()
    assert run("gallery", "create", place, files["gallery"]).returncode == 0
    other = str(tmp_path / "kept.json")
    done = run(
        *("calibrate", files["query"], "--gallery", place, "-o", other, "--false_alarms", "0.1")
    )
    assert done.returncode == 0, done.stderr
    kept, stored = read_calibration(other), read_calibration(calibration)
    assert kept.threshold == stored.threshold and list(kept.gallery) == [place]

    def said(*words: str) -> dict[str, Any]:
        done = run(*words, "--calibrate", calibration, "--top", "3", "--json")
        assert (done.returncode, done.stderr) == (0, "")
        return json.loads(done.stdout)

    queries = files["query"], files["new"]
    expected = said("search", *queries, "--gallery", files["gallery"])["queries"]
    for words in (("search", *queries, "--gallery", place), ("gallery", "search", place, *queries)):
        answers = said(*words)
        assert answers["threshold"] == stored.threshold and answers["exact"]
        assert "false-alarm rate of 10.00%" in answers["scores"]
        for one, two in zip(answers["queries"], expected, strict=True):
            for key in ("name", "in_gallery", "false_alarm_rate"):
                assert one[key] == two[key]
            assert [row["name"] for row in one["results"]] == [
                row["name"] for row in two["results"]
            ]
    text = run("gallery", "search", place, files["new"], "--threshold", "0.1").stdout
    assert text.count("not in the gallery: the nearest, at ") == STRANGERS
    asked, kept_search = ("search", files["new"], "--gallery", place), ("gallery", "search", place)
    for words, says in (
        ((*asked, "--metric", "euclidean"), "was created with --metric cosine"),
        ((*asked, "--index", "ivf"), "is searched by its own index"),
        ((*kept_search, files["new"], "--calibrate", files["new"]), "cannot be read"),
        ((*kept_search, files["new"], "--threshold", "-1"), "give a distance, from 0"),
    ):
        done = run(*words)
        assert done.returncode == 2 and says in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_junk_is_nobody_however_near(files: dict[str, str], tmp_path: Path) -> None:
    gallery, junk = read_features(files["gallery"]), str(tmp_path / "junk.parquet")
    write_features(junk, replace(gallery, persons=["0000", "-1", *(gallery.persons or [])[2:]]))
    words = ("search", junk, "--gallery", junk, "--threshold", "0.1", "--top", "1")
    there = [each["in_gallery"] for each in json.loads(run(*words, "--json").stdout)["queries"]]
    assert there == [False, False] + [True] * (PERSONS - 2)
    assert run(*words).stdout.count("and nobody (junk, or a distractor)") == 2


def test_a_larger_gallery_is_pointed_out(files: dict[str, str], calibration: str) -> None:
    gallery = read_features(files["gallery"])
    more = replace(gallery, names=[f"more/{name}" for name in gallery.names])
    for name, rows in (("one", gallery), ("two", more)):
        write_features(Path(files["gallery"]).parent / f"{name}.parquet", rows)
    large = str(Path(files["gallery"]).parent / "large.parquet")
    write_features(large, concatenate([gallery, more]))
    said = run("search", files["query"], "--gallery", large, "--calibrate", calibration).stdout
    assert "this gallery has 400: expect more false alarms" in said


def test_a_threshold_is_measured_on_other_features(
    files: dict[str, str], calibration: str, tmp_path: Path
) -> None:
    words = ["--gallery", files["gallery"], "--check", calibration, "--json"]
    done = run("calibrate", files["query"], *words, "--page", str(tmp_path / "page.html"))
    said = f"{calibration} was chosen on {files['query']}: "
    assert done.stderr.startswith(said) and done.stderr.count("\n") == 1
    assert said in (tmp_path / "page.html").read_text(encoding="utf-8")
    copy, other = str(tmp_path / "copy.parquet"), str(tmp_path / "other.parquet")
    shutil.copy(files["query"], copy)
    assert f"was chosen on {copy}: " in run("calibrate", copy, *words).stderr
    query = read_features(files["query"])
    write_features(other, replace(query, names=[f"other/{name}" for name in query.names]))
    assert run("calibrate", other, *words).stderr == ""
    values = json.loads(done.stdout)
    stored = read_calibration(calibration)
    assert values["chosen"]["threshold"] == stored.threshold
    assert values["chosen"]["rate"] == stored.rate
    assert values["chosen"]["detection_rate"] == stored.detection_rate


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": "b" * 64}, "is of runs/a.*hash aaaaaaaaaaaa.*hash bbbbbbbbbbbb"),
        ({"test_frames": 4}, "--test_frames all and --metric cosine, this search of"),
        ({"features": np.ones((200, 8), np.float32)}, "dimension 32.*dimension 8"),
    ],
)
def test_features_of_another_network_are_refused(
    changes: dict[str, Any], said: str, files: dict[str, str], calibration: str, tmp_path: Path
) -> None:
    other = str(tmp_path / "other.parquet")
    write_features(other, replace(read_features(files["gallery"]), **changes))
    for words in (
        ["search", other, "--gallery", other, "--calibrate", calibration],
        ["calibrate", other, "--gallery", other, "--check", calibration],
    ):
        done = run(*words)
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
        with pytest.raises(UserError, match=said):
            raise UserError(done.stderr)
    done = run(
        "search",
        files["query"],
        "--gallery",
        files["gallery"],
        "--metric",
        "euclidean",
        "--calibrate",
        calibration,
    )
    assert done.returncode == 2 and "--metric cosine, this search" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--false_alarms", "0.01"], "needs 1,000 searches.*there are 200: give 0.05 or more"),
        (["--false_alarms", "0"], "--false_alarms 0: give a share above 0"),
        (["--check", "{calibration}"], "--check measures a threshold and chooses none"),
        (["--check", "{gallery}"], "leave -o out"),
        (["-o", "{query}"], "-o .* is another file of this command"),
        (["--page", "{output}"], "--page .* is another file of this command"),
    ],
)
def test_bad_options(
    words: list[str], said: str, files: dict[str, str], calibration: str, tmp_path: Path
) -> None:
    output = tmp_path / "new.json"
    words = [word.format(calibration=calibration, output=output, **files) for word in words]
    before = Path(files["query"]).read_bytes()
    done = run(
        "calibrate", files["query"], "--gallery", files["gallery"], "-o", str(output), *words
    )
    assert done.returncode == 2 and not output.exists()
    assert Path(files["query"]).read_bytes() == before
    with pytest.raises(UserError, match=said):
        raise UserError(done.stderr)


def test_what_is_read_is_not_replaced(files: dict[str, str], calibration: str) -> None:
    query, gallery = files["query"], files["gallery"]
    before = [Path(path).read_bytes() for path in (query, gallery, calibration)]
    measured = ["calibrate", query, "--gallery", gallery, "--false_alarms", "0.1"]
    searched = ["search", query, "--gallery", gallery, "--calibrate", calibration]
    for words in (
        *([*measured, option, path] for option in ("-o", "--page") for path in (query, gallery)),
        [*measured, "--check", calibration, "--page", calibration],
        *([*searched, "--page", path] for path in (query, gallery, calibration)),
        ["extract", query, "--output", query],
    ):
        done = run(*words)
        assert done.returncode == 2 and "is another file of this command" in done.stderr, words
    assert [Path(path).read_bytes() for path in (query, gallery, calibration)] == before


def test_bad_thresholds(files: dict[str, str], calibration: str) -> None:
    words = ["search", files["query"], "--gallery", files["gallery"]]
    for more, said in (
        (["--threshold", "-1"], "--threshold -1: give a distance, from 0"),
        (["--threshold", "nan"], "--threshold: expected a number"),
        (["--threshold", "1", "--calibrate", calibration], "give one of them"),
        (["--calibrate", "nothing.json"], "nothing.json cannot be read"),
        (["--page", files["gallery"]], "is another file of this command"),
    ):
        done = run(*words, *more)
        assert done.returncode == 2 and said in done.stderr, done.stderr


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "something"},
        {"format": 2},
        {"threshold": None},
        {"others": [2, 1]},
        {"others": "no"},
        {"others": [[0.1, 0.2]]},
        {"others": [0.1, 1e300]},
        {"wanted": "much"},
        {"entries": None},
        {"model": 5},
        {"threshold": -1.0},
        {"threshold": True},
        {"interval": 3},
        {"query": ["q.parquet"]},
        {"more": 1},
        {"model": ...},
    ],
)
def test_damaged_calibrations(change: dict[str, Any], calibration: str) -> None:
    values = json.loads(Path(calibration).read_text()) | change
    Path(calibration).write_text(
        json.dumps({name: value for name, value in values.items() if value is not ...})
    )
    with pytest.raises(
        UserError, match="calibration.json is (damaged|not a calibration)"
    ) as raised:
        read_calibration(calibration)
    assert "\n" not in str(raised.value)


def test_a_network_that_tells_nobody_apart_has_no_threshold(
    files: dict[str, str], tmp_path: Path
) -> None:
    rows = concatenate([read_features(files[name]) for name in ("query", "gallery")])
    rows.features[:] = np.eye(1, 32)  # whose distances are 0 without rounding
    path = str(tmp_path / "equal.parquet")
    write_features(path, rows)
    words = ["--gallery", path, "-o", str(tmp_path / "none.json"), "--false_alarms", "0.5"]
    done = run("calibrate", path, *words)
    assert done.returncode == 2 and "400 of 400 searches find somebody else" in done.stderr
    assert len(done.stderr.splitlines()) == 1 and not (tmp_path / "none.json").exists()


def test_features_without_names_are_refused(files: dict[str, str], tmp_path: Path) -> None:
    nameless = str(tmp_path / "nameless.parquet")
    rows = read_features(files["query"])
    write_features(nameless, replace(rows, persons=[None] * len(rows)))
    done = run("calibrate", nameless, "--gallery", files["gallery"])
    assert done.returncode == 2 and "--layout folder" in done.stderr


def test_a_query_of_another_spelling_is_left_out(files: dict[str, str], tmp_path: Path) -> None:
    """``./a`` is ``a``, as in a gallery: nobody is compared with themselves."""
    rows, both = read_features(files["query"]), str(tmp_path / "both.parquet")
    write_features(both, concatenate([rows, read_features(files["gallery"])]))
    dotted = str(tmp_path / "dotted.parquet")
    write_features(dotted, replace(rows, names=[f"./{name}" for name in rows.names]))
    words = ("--gallery", both, "--cameras", "ignore", "--json")
    asked = files["query"], dotted
    found = [json.loads(run("calibrate", name, *words).stdout) for name in asked]
    assert found[0] == found[1] and found[0]["genuine_trials"] == PERSONS


def test_a_name_that_stands_twice_is_left_out_twice(files: dict[str, str]) -> None:
    rows = read_features(files["query"])
    both = concatenate([rows, rows, read_features(files["gallery"])])
    counted = [
        len(measure(rows, table, metric="cosine", cameras="ignore").genuine)
        for table in (concatenate([rows, read_features(files["gallery"])]), both)
    ]
    assert counted == [PERSONS, PERSONS]


@pytest.mark.parametrize("searches", [101, 240, 812, 1001, 98765])
def test_the_rate_that_is_advised_is_measurable(files: dict[str, str], searches: int) -> None:
    rows = read_features(files["query"])
    found = measure(rows, read_features(files["gallery"]), metric="cosine", cameras="cross")
    found = replace(found, others=np.arange(searches, dtype=np.float32))
    with pytest.raises(UserError, match="not measurable") as raised:
        calibrate(
            *(rows, rows, found),
            false_alarms=1e-5,
            metric="cosine",
            cameras="cross",
            files=({}, {}),
        )
    advised = re.search(r"give (\S+) or more", str(raised.value))
    assert advised and found.threshold(float(advised[1])) is not None
    assert float(advised[1]) < 1.2 * 10 / searches


def test_the_command_and_its_page(files: dict[str, str], tmp_path: Path) -> None:
    page, output = tmp_path / "page.html", tmp_path / "c.json"
    words = ["--gallery", files["gallery"], "-o", str(output), "--page", str(page)]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "reid",
            "calibrate",
            files["query"],
            *words,
            "--false_alarms",
            "0.1",
        ],
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr
    assert f"page: {page}" in done.stdout
    text = page.read_text(encoding="utf-8")
    assert text.count("data:image/png") == 3 and "http" not in text.split("</style>")[1]
    assert f"{read_calibration(str(output)).threshold:.4f}" in text
    assert text.count("not measurable") >= 4
    found = tmp_path / "found.html"
    words = ["--gallery", files["gallery"], "--calibrate", str(output), "--page", str(found)]
    done = run("search", files["new"], *words)
    assert done.returncode == 0, done.stderr
    assert found.read_text(encoding="utf-8").count("Not in the gallery: the nearest") >= 15
