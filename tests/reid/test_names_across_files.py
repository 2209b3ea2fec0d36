"""Query and gallery in files of their own give what the whole dataset gives."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reid import evaluate_features
from reid.data.tracklet import NO_NUMBER
from reid.metrics.ranking import Ranking
from reid.retrieval.features import FeatureTable, concatenate, read_features, write_features
from reid.retrieval.index import search
from tests.reid.little import run, write_tracklet
from tests.reid.test_features import make_table
from video_snl.errors import UserError

IDENTITIES = ["0201", "202", "0203", "7000", "visitor_A", "Ænne <b>"]
CAMERAS = ["yard", "3", "door"]


@dataclass(frozen=True)
class Extracted:
    """A dataset, what ``reid evaluate`` says of it, and a feature file of each of its lists."""

    root: Path
    evaluated: dict[str, Any]
    report: Path
    query: Path
    gallery: Path


@pytest.fixture(scope="module")
def extracted(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Extracted:
    """Identities seen by three cameras; each list has names that the other one has not."""
    folder = tmp_path_factory.mktemp("names")
    root = folder / "set"
    for number, person in enumerate(IDENTITIES):
        own = CAMERAS[number % 3]
        # So alike that the network takes many for others.
        look = 300 + number // 2
        write_tracklet(root / "query" / person / own / "t0", look, number % 3)
        for camera, name in enumerate(CAMERAS):
            frames = 2 + number % 2  # so that no two tracklets are at one distance
            write_tracklet(root / "gallery" / person / name / "t1", look, camera, frames=frames)
    write_tracklet(root / "query" / "099" / "attic" / "t0", 390, 1)
    for place, look in (("0000/attic/t0", 391), ("00-1/3/t0", 300), ("-1/yard/t0", 301)):
        write_tracklet(root / "gallery" / place, look, 0)
    words = ("--checkpoint", str(trained), "--dataset", "folder", "--root", str(root), "--json")
    report = folder / "report"
    done = run("evaluate", *words, "--protocol", "both", "--report", str(report))
    assert done.returncode == 0, done.stderr
    files = {part: folder / f"{part}.parquet" for part in ("query", "gallery")}
    for part, file in files.items():
        words = ("--checkpoint", str(trained), "--layout", "folder", "-o", str(file))
        extracting = run("extract", *words, "--accelerator", "cpu", str(root / part))
        assert extracting.returncode == 0, extracting.stderr
        assert f"{root / part}: " in extracting.stdout and "identities" in extracting.stdout
    return Extracted(root, json.loads(done.stdout), report, **files)


def assert_same(ranking: Ranking, wanted: dict[str, Any]) -> None:
    assert ranking.mean_ap == pytest.approx(wanted["mAP"], abs=1e-6)
    assert ranking.mean_inp == pytest.approx(wanted["mINP"], abs=1e-6)
    for rank in (1, 5, 10, 20):
        assert float(ranking.cmc[rank - 1]) == pytest.approx(wanted[f"rank{rank}"], abs=1e-6)
    assert ranking.num_queries == wanted["queries"]


def test_two_files_give_what_the_whole_gives(extracted: Extracted) -> None:
    wanted = extracted.evaluated["rankings"]["common"]
    assert 0.2 < wanted["mAP"] < 0.95  # numbers that a mistake changes
    assert (wanted["queries"], wanted["queries_counted"]) == (7, 6)
    query, gallery = read_features(extracted.query), read_features(extracted.gallery)
    assert_same(evaluate_features(query, gallery), wanted)
    lists = query.persons, gallery.persons, query.cameras, gallery.cameras
    assert_same(evaluate_features(query.features, gallery.features, *lists), wanted)


def test_concatenated_files_give_what_the_whole_gives(extracted: Extracted, tmp_path: Path) -> None:
    query, gallery = read_features(extracted.query), read_features(extracted.gallery)
    write_features(tmp_path / "both.parquet", concatenate([query, gallery]))
    stored = pa.concat_tables(pq.read_table(f) for f in (extracted.query, extracted.gallery))
    pq.write_table(stored, tmp_path / "arrow.parquet")
    for name in ("both", "arrow"):
        both, size = read_features(tmp_path / f"{name}.parquet"), len(query)
        persons, cameras = both.person_names, both.camera_names
        ranking = evaluate_features(
            both.features[:size],
            both.features[size:],
            persons[:size],
            persons[size:],
            cameras[:size],
            cameras[size:],
        )
        assert_same(ranking, extracted.evaluated["rankings"]["common"])


def test_search_on_two_files_ranks_as_evaluate_does(extracted: Extracted) -> None:
    words = ("--gallery", str(extracted.gallery), "--top", "99", "--json", str(extracted.query))
    done = run("search", *words)
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader((extracted.report / "rankings.csv").open(encoding="utf-8")))
    precision = []
    for query in json.loads(done.stdout)["queries"]:
        who = query["person_name"], query["camera_name"]
        kept = [
            result
            for result in query["results"]
            if result["person_name"] not in ("-1", "00-1")
            and (result["person_name"], result["camera_name"]) != who
        ]
        mine = [row for row in rows if str(Path(row["query"]).parent) == query["name"]]
        assert {(row["query_person"], row["query_camera"]) for row in mine} == {who}
        counted = [row for row in mine if row["verdict"] != "junk"]
        assert [str(Path(row["tracklet"]).parent) for row in counted] == [
            result["name"] for result in kept[:10]
        ]
        assert [(row["person"], row["camera"]) for row in counted] == [
            (result["person_name"], result["camera_name"]) for result in kept[:10]
        ]
        hits = [rank for rank, r in enumerate(kept, 1) if r["person_name"] == who[0]]
        if hits:
            precision.append(np.mean([n / rank for n, rank in enumerate(hits, 1)]))
    wanted = extracted.evaluated["rankings"]["common"]
    assert len(precision) == wanted["queries_counted"]
    assert np.mean(precision) == pytest.approx(wanted["mAP"], abs=1e-6)


def test_files_hold_names_and_the_numbers_that_are_names(extracted: Extracted) -> None:
    rows = pq.read_table(extracted.gallery).to_pylist()
    identities = {row["person"]: row["person_ids"] for row in rows}
    assert identities == {
        "0201": 201,
        "202": 202,
        "0203": 203,
        "7000": 7000,
        "visitor_A": None,
        "Ænne <b>": None,
        "0000": 0,
        "-1": -1,
        "00-1": -1,
    }
    assert {row["camera"]: row["camera_ids"] for row in rows} == {
        "yard": None,
        "3": 3,
        "door": None,
        "attic": None,
    }


def test_reports_show_the_names_of_the_folders(extracted: Extracted, tmp_path: Path) -> None:
    page = (extracted.report / "report.html").read_text(encoding="utf-8")
    for name in ("person visitor_A", "person 0201", "camera yard", "Ænne &lt;b&gt;"):
        assert name in page
    pairs = list(csv.DictReader((extracted.report / "camera_pairs.csv").open()))
    assert {row["query_camera"] for row in pairs} == {*CAMERAS, "attic"}
    done = run(
        "search",
        *("--gallery", str(extracted.gallery), "--top", "30", str(extracted.query)),
        *("--page", str(tmp_path / "found.html")),
    )
    assert done.returncode == 0, done.stderr
    assert "visitor_A" in done.stdout and "yard" in done.stdout and "0201" in done.stdout
    found = (tmp_path / "found.html").read_text(encoding="utf-8")
    assert "person visitor_A, camera door" in found and "junk, person 00-1" in found


def test_numbers_that_are_not_names_are_not_compared(extracted: Extracted) -> None:
    query, gallery = read_features(extracted.query), read_features(extracted.gallery)
    assert (query.camera_ids == NO_NUMBER).any()
    numbers = query.person_ids, gallery.person_ids, query.camera_ids, gallery.camera_ids
    with pytest.raises(UserError, match="names"):
        evaluate_features(query.features, gallery.features, *numbers)


def old_file(path: Path, table: FeatureTable) -> FeatureTable:
    """The table as format 1 had it."""
    write_features(path, replace(table, persons=None, cameras=None))
    stored = pq.read_table(path).drop_columns(["person", "camera"])
    for key in ("person_ids", "camera_ids"):
        place = stored.schema.get_field_index(key)
        stored = stored.set_column(place, key, pa.array(getattr(table, key), pa.int64()))
    metadata = {**stored.schema.metadata, b"reid.format": b"1"}
    del metadata[b"reid.sha256"]
    pq.write_table(stored.replace_schema_metadata(metadata), path)
    return read_features(path)


def identities_of(seed: int, identities: list[int], cameras: list[int]) -> FeatureTable:
    return make_table(
        len(identities), seed=seed, person_ids=np.array(identities), camera_ids=np.array(cameras)
    )


def test_format_1_is_read_but_not_beside_another_file(tmp_path: Path) -> None:
    new = identities_of(0, [1, 2, 1], [0, 0, 1])
    write_features(tmp_path / "new.parquet", new)
    new = read_features(tmp_path / "new.parquet")
    old = old_file(tmp_path / "old.parquet", identities_of(1, [1, 2, 1], [0, 0, 1]))
    other = old_file(tmp_path / "other.parquet", identities_of(2, [1, 2, 1], [1, 0, 1]))
    assert old.person_ids.tolist() == [1, 2, 1] and old.camera_ids.tolist() == [0, 0, 1]
    for second in (new, other):
        for refused in (
            lambda t: concatenate([old, t]),
            lambda t: evaluate_features(old, t),
            lambda t: search(t, old),
        ):
            with pytest.raises(UserError, match=r"format 1.*extract it again"):
                refused(second)
    # With itself it is compared, also when it was written once more: its numbers are not names.
    assert evaluate_features(old, old).num_valid_queries == 2
    write_features(tmp_path / "again.parquet", old)
    with pytest.raises(UserError, match="format 1"):
        concatenate([new, read_features(tmp_path / "again.parquet")])
    # A query of whom nothing is known is compared by its features alone.
    unknown = identities_of(3, [-1], [-1])
    assert search(unknown, old, top=3).indices.shape == (1, 3)
    assert concatenate([old, unknown]).person_names == ["1", "2", "1", None]


def test_names_are_compared_and_not_the_numbers_in_them() -> None:
    features = np.eye(4, dtype=np.float32)
    lists = ["7", "-1", "ann"], ["b7", "7", "00-1", "0"], ["a"] * 3, ["b", "b", "b", "b"]
    ranking = evaluate_features(features[:3], features, *lists)
    assert ranking.num_valid_queries == 1  # only 7 has a match
    assert ranking.mean_ap == pytest.approx(0.5)
    with pytest.raises(UserError, match="identities '007' and '7' are the same number"):
        evaluate_features(features[:3], features, lists[0], ["007", *lists[1][1:]], *lists[2:])
    with pytest.raises(UserError, match="person"):
        evaluate_features(features[:3], features, [7, 1, 2], *lists[1:])  # type: ignore[arg-type]
    with pytest.raises(UserError, match="camera"):
        evaluate_features(features[:3], features, *lists[:2], [None] * 3, lists[3])


def test_people_that_nobody_named_are_not_evaluated(tmp_path: Path) -> None:
    known, unknown = identities_of(0, [1, 2], [0, 0]), identities_of(1, [-1, -1], [-1, -1])
    with pytest.raises(UserError, match="--layout folder"):
        evaluate_features(known, unknown)
    with pytest.raises(UserError, match="both"):
        evaluate_features(known, unknown.features)
