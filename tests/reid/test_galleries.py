"""Galleries that are kept: the same answers and refusals in a folder and in PostgreSQL."""

from __future__ import annotations

import json
import math
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from reid.galleries.entries import (
    ROUNDING,
    About,
    Entries,
    IndexChoice,
    entries_of,
    joined,
    parse_time,
    read_times,
)
from reid.galleries.places import create_gallery, is_database, open_gallery
from reid.galleries.searching import ANYTHING, Answer, Only, distances
from reid.galleries.store import Added, Removed, recall, verify
from reid.metrics.distances import Metric
from reid.retrieval.calibration import NO_PROBABILITIES
from reid.retrieval.features import read_features, write_features
from reid.retrieval.gallery import Gallery
from tests.reid import galleries
from tests.reid.galleries import Place, kept_in, made, nearest_by_loops, table
from tests.reid.little import run
from video_snl.errors import UserError

BACKENDS = ("folder", "postgres")


@pytest.fixture(params=BACKENDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return kept_in(request.param, tmp_path, request)


@pytest.fixture
def both(tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Place, Place]:
    return kept_in("folder", tmp_path, request), kept_in("postgres", tmp_path, request)


@pytest.mark.parametrize("metric", get_args(Metric))
@pytest.mark.parametrize(
    "only",
    [
        ANYTHING,
        Only(cameras=("c1", "c3")),
        Only(persons=("p2", "p5"), cameras=("c1",)),
        Only(after=30, before=60),
        Only(after=30),
        Only(before=9, persons=("p3",)),
        Only(persons=("nobody",)),
    ],
    ids=str,
)
def test_exact_answers_are_those_of_plain_loops(place: Place, metric: Metric, only: Only) -> None:
    some = galleries.entries(90)
    some.table.features[40:60] = some.table.features[3]  # ties, in the order of the keys
    gallery = made(place(), some, metric)
    queries = galleries.table(3, seed=7).features
    queries[0] = some.table.features[3]
    rows = [
        row
        for row in range(90)
        if (not only.persons or some.table.person_names[row] in only.persons)
        and (not only.cameras or some.table.camera_names[row] in only.cameras)
        and (only.after is None or (row % 3 == 0 and row >= only.after))
        and (only.before is None or (row % 3 == 0 and row < only.before))
    ]
    found = gallery.search(queries, top=15, only=only)
    assert found.exact
    for number, query in enumerate(queries):
        expected = nearest_by_loops(some, query, 15, metric, rows)
        assert found.keys(number) == [key for key, _ in expected]
        near = found.distances[number][: len(expected)]
        # Of vectors that are equal, sqrt(1 - 1) of a rounded cosine is not more than this.
        np.testing.assert_allclose(near, [each for _, each in expected], atol=1e-11)
        assert np.isinf(found.distances[number][len(expected) :]).all()


@pytest.mark.parametrize("metric", get_args(Metric))
def test_both_give_equal_answers_to_the_last_bit(both: tuple[Place, Place], metric: Metric) -> None:
    some = galleries.entries(800, 96)
    some.table.features[:400] += 300  # far from the origin, where float32 sums lose digits
    some.table.features[100:130] = some.table.features[500]
    some.table.features[130:160] = np.nextafter(some.table.features[500], np.float32(9))
    queries = np.concatenate([some.table.features[490:510], some.table.features[95:105]])
    one, two = (made(place(), some, metric) for place in both)
    for only in (ANYTHING, Only(cameras=("c2",))):
        for top in (1, 20, 700, 900):
            a, b = (each.search(queries, top=top, only=only) for each in (one, two))
            assert [a.keys(q) for q in range(30)] == [b.keys(q) for q in range(30)]
            assert (a.distances == b.distances).all()
    assert one.stats().contents == two.stats().contents
    assert verify(one, two)[0] == []


def test_distances_do_not_depend_on_the_company() -> None:
    random = np.random.default_rng(3)
    for metric in get_args(Metric):
        for size in (1, 7, 96, 513, 2048):
            vectors = random.normal(size=(50, size)).astype(np.float32)
            query = random.normal(size=size).astype(np.float32)
            whole = distances(query, vectors, metric)
            alone = [distances(query, vector[None], metric)[0] for vector in vectors]
            assert whole.tolist() == alone
            assert distances(query, vectors[::-1], metric).tolist() == alone[::-1]


@pytest.mark.parametrize("index", ["ivf", "hnsw"])
@pytest.mark.parametrize("metric", get_args(Metric))
def test_an_index_finds_most_and_orders_alike(
    place: Place, metric: Metric, index: IndexChoice
) -> None:
    some = galleries.entries(300)
    centres = np.random.default_rng(1).normal(size=(12, 24)) * 5
    some.table.features[:] += centres[np.arange(300) % 12].astype(np.float32)
    gallery = made(place(), some.rows(np.arange(200)), metric, index)
    assert gallery.stats().index == index
    gallery.add(some)
    queries = some.table.features[::10]
    found, exact = gallery.search(queries), gallery.search(queries, exact=True)
    assert (found.exact, exact.exact) == (False, True)
    assert recall(found, exact) > 0.8
    assert (found.distances[:, 0] == exact.distances[:, 0]).all()
    assert (np.diff(found.distances[:, :5]) >= 0).all()
    only = Only(cameras=("c1",))
    filtered = [gallery.search(queries, only=only, exact=exact) for exact in (False, True)]
    assert filtered[0].exact  # filtered searches are, always
    assert (filtered[0].distances == filtered[1].distances).all()
    wrong, figures = verify(gallery)
    assert wrong == [] and figures["recall"] > 0.8
    # More than is in the cells, or on the ways through the graph, that are looked into.
    found, exact = (gallery.search(queries, top=300, exact=each) for each in (False, True))
    assert _answers(found) == _answers(exact)
    gallery.remove(some.keys[:290])
    left = gallery.search(queries[:1], top=10)
    assert sorted(left.keys(0)) == some.keys[290:] and not left.exact


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_hundred_thousand_entries(both: tuple[Place, Place]) -> None:
    some, queries = galleries.clusters(100_000, 512, 50)
    camera = Only(cameras=("c1",))
    exact, of_camera = None, None
    for place in both:
        gallery = made(place(), some)
        found, filtered = gallery.search(queries), gallery.search(queries, only=camera)
        assert found.exact and (exact is None or _answers(found) == _answers(exact))
        assert of_camera is None or _answers(filtered) == _answers(of_camera)
        exact, of_camera = found, filtered
    assert exact is not None and of_camera is not None
    for place in both:
        for index in ("ivf", "hnsw"):
            gallery = made(place(), some, index=index)  # type: ignore[arg-type]
            found = gallery.search(queries)
            assert not found.exact and recall(found, exact) > 0.85
            first = [found.keys(q)[0] == exact.keys(q)[0] for q in range(len(queries))]
            assert sum(first) >= 45
            assert _answers(gallery.search(queries, exact=True)) == _answers(exact)
            assert _answers(gallery.search(queries, only=camera)) == _answers(of_camera)


def _answers(found: Answer) -> list[tuple[list[str], list[float]]]:
    return [(found.keys(q), found.distances[q].tolist()) for q in range(len(found.rows))]


def test_a_large_gallery_gets_an_index(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("folder_files", "postgres"):
        monkeypatch.setattr(f"reid.galleries.{module}.EXACT_UP_TO", 100)
    gallery = made(place(), galleries.entries(100))
    assert gallery.stats().index == "flat" and gallery.search(np.ones((1, 24))).exact
    gallery.add(galleries.entries(1, first=100, seed=1))
    assert gallery.stats().index == "ivf" and not gallery.search(np.ones((1, 24))).exact
    gallery.add(galleries.entries(200, first=101, seed=2))  # more than twice as many: built anew
    assert verify(gallery)[0] == []
    gallery.remove([f"t{row:04}" for row in range(250)])
    assert gallery.stats().index == "flat" and gallery.stats().entries == 51
    assert verify(gallery)[0] == []


def test_adding_is_idempotent_by_key(place: Place) -> None:
    gallery = made(place(), galleries.entries(20))
    before = gallery.stats()
    assert gallery.add(galleries.entries(20)) == Added(0, 20)
    assert gallery.stats().contents == before.contents
    assert gallery.add(galleries.entries(30)) == Added(10, 20)
    more = galleries.entries(5, first=100, seed=3)
    assert gallery.add(more) == Added(5, 0)
    absent = ["absent", "zero\0byte"]
    assert gallery.remove([*more.keys, *absent]) == Removed(5, absent)
    assert gallery.remove(more.keys) == Removed(0, more.keys)


def test_a_vector_of_another_batch_is_the_same_entry(place: Place) -> None:
    gallery = made(place(), galleries.entries(20))
    before = gallery.stats()
    again = galleries.entries(20)
    vectors = again.table.features
    vectors *= 1 + np.float32(0.5 * ROUNDING)
    assert gallery.add(joined([again, galleries.entries(1, first=50)])) == Added(1, 20)
    gallery.remove(["t0050"])
    assert gallery.stats().contents == before.contents  # what was there stays
    vectors[7] *= 1 + np.float32(4 * ROUNDING)
    with pytest.raises(UserError, match=r"'t0007' with other values \(another vector, .*e-05 of"):
        gallery.add(again)
    timed = replace(galleries.entries(1), times=np.array([1796019000.0]))
    with pytest.raises(UserError, match=r"time .*, now 2026-11-30T06:10:00\+00:00\)"):
        gallery.add(timed)
    assert gallery.stats().contents == before.contents and verify(gallery)[0] == []
    twice = replace(again.table, names=["t0000"] * 20)
    with pytest.raises(UserError, match="stands twice"):
        entries_of(twice)


def test_names_of_one_path_are_one_key(place: Place) -> None:
    some = table(3)
    written = entries_of(replace(some, names=["./a//b/", "../x/./y", "c"]), {"././c": 5})
    assert written.keys == ["a/b", "../x/y", "c"] and written.times[2] == 5
    gallery = made(place(), written)
    again = entries_of(replace(some, names=["a/b/.", "..//x/y", "c/"]), {"c": 5})
    assert gallery.add(again) == Added(0, 3)
    assert gallery.remove(["./c/", "a/./b", "./a/../c"]) == Removed(2, ["a/../c"])


def _changed(some: Entries, what: str) -> Entries:
    features = some.table.features.copy()
    features[2, 5] += 1
    persons = [*some.table.person_names[:2], "somebody else", *some.table.person_names[3:]]
    changes = {
        "another vector": replace(some, table=replace(some.table, features=features)),
        "person": replace(some, table=replace(some.table, persons=persons)),
        "time": replace(some, times=np.full(len(some), 5.0)),
        "frames": replace(some, table=replace(some.table, num_frames=some.table.num_frames + 1)),
    }
    return changes[what]


@pytest.mark.parametrize("what", ["another vector", "person", "time", "frames"])
def test_a_key_with_other_values_is_refused(place: Place, what: str) -> None:
    some = galleries.entries(10)
    gallery = made(place(), some)
    before = gallery.stats()
    new = galleries.entries(3, first=50, seed=9)
    with pytest.raises(UserError, match=what) as raised:
        gallery.add(joined([new, _changed(some, what)]))
    assert "t000" in str(raised.value) and "nothing was added" in str(raised.value)
    assert gallery.stats() == before and verify(gallery)[0] == []


def test_another_network_or_dimension_is_refused(place: Place) -> None:
    location = place()
    gallery = made(location, galleries.entries(5))
    for other in (
        table(2, first=10, model="1" * 64),
        table(2, 12, first=10),
        replace(table(2, first=10), test_frames=4),
    ):
        with pytest.raises(UserError, match="extract both with one"):
            gallery.add(entries_of(other))
        with pytest.raises(UserError, match="extract both with one"):
            gallery.about.check(other)
    with pytest.raises(UserError, match="dimension 24"):
        gallery.search(np.ones((1, 12)))
    with pytest.raises(UserError, match="top=0"):
        gallery.search(np.ones((1, 24)), top=0)
    for wrong in (np.zeros((1, 24)), np.full((1, 24), np.nan)):
        with pytest.raises(UserError, match="no distances"):
            gallery.search(wrong)
    assert open_gallery(location).stats().entries == 5


@pytest.mark.parametrize(
    ("value", "says"),
    [(0.0, "is zero"), (np.nan, "not finite"), (np.inf, "not finite"), (1e30, "has length")],
)
def test_vectors_without_distances_are_refused(value: float, says: str) -> None:
    some = table(4)
    some.features[2] = value
    with pytest.raises(UserError, match=says) as raised:
        entries_of(some)
    assert "t0002" in str(raised.value)


def test_names_that_cannot_be_keys_are_refused() -> None:
    for name, says in (("", "is empty"), ("a\0b", "zero byte"), ("é" * 501, "1,002 bytes")):
        with pytest.raises(UserError, match=says):
            entries_of(replace(table(1), names=[name]))
        with pytest.raises(UserError, match=says):
            entries_of(replace(table(1), persons=[name]))
    twice = replace(table(2), names=["a", "a"])
    with pytest.raises(UserError, match="stands twice"):
        entries_of(twice)
    same = entries_of(
        replace(
            twice,
            features=np.ones((2, 24), np.float32),
            persons=["p", "p"],
            cameras=["c", "c"],
            num_frames=np.ones(2, np.int64),
            skipped_frames=np.ones(2, np.int64),
        )
    )
    assert same.keys == ["a"]
    with pytest.raises(UserError, match="format 1"):
        entries_of(replace(table(1), numbering="old.parquet"))


def test_any_text_comes_back_as_it_was(place: Place) -> None:
    names = ["'; DROP TABLE entries; --", "näme\n\t\\N", "%s %(x)s {schema}", "𝕏", "￿", "Z", "a"]
    some = replace(table(7), names=names, persons=names, cameras=names[::-1])
    gallery = made(place(), entries_of(some))
    [found] = gallery.read()
    assert found.keys == sorted(names)
    assert found.table.person_names == sorted(names)
    for name in names:
        assert gallery.search(np.ones((1, 24)), only=Only(persons=(name,))).keys(0) == [name]
        assert gallery.search(np.ones((1, 24)), only=Only(cameras=(name,))).keys(0) == [
            names[6 - names.index(name)]
        ]


def test_names_of_several_lines_stay_in_their_line_of_a_table(place: Place, tmp_path: Path) -> None:
    names = ["a\nrank 1", "\x1b[31mred", "ü\u2028b"]
    some = replace(table(3), names=names, persons=names, cameras=names)
    write_features(tmp_path / "f.parquet", some)
    where = made(place(), entries_of(some)).where
    done = run("gallery", "search", where, str(tmp_path / "f.parquet"), "--top", "1")
    assert done.returncode == 0 and "\x1b" not in done.stdout
    assert len(done.stdout.splitlines()) == 1 + 4 * 3 + 2
    assert "query a\\nrank 1 (" in done.stdout and "ü\\u2028b" in done.stdout


def test_exports_are_equal_and_read_by_the_gallery_in_memory(
    both: tuple[Place, Place], tmp_path: Path
) -> None:
    some = galleries.entries(50)
    files = []
    for number, place in enumerate(both):
        gallery = made(place(), some.rows(np.arange(50)[::-1]))
        files.append(tmp_path / f"{number}.parquet")
        words = ("-o", str(files[-1]), "--times", str(tmp_path / f"{number}.csv"))
        assert run("gallery", "export", gallery.where, *words).returncode == 0
    assert files[0].read_bytes() == files[1].read_bytes()
    again = entries_of(read_features(files[0]), read_times(str(tmp_path / "1.csv")))
    assert again.digests() == some.digests()
    assert Gallery.read(files[0]).names == some.keys


def test_an_export_replaces_no_file_of_the_gallery(tmp_path: Path) -> None:
    gallery, other = made(str(tmp_path / "g"), galleries.entries(5)), str(tmp_path / "f.parquet")
    manifest = str(tmp_path / "g" / "gallery.json")
    for words in (
        ("-o", manifest),
        ("-o", other, "--times", manifest),
        ("-o", other, "--times", other),
    ):
        done = run("gallery", "export", gallery.where, *words)
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert gallery.faults() == [] and not os.path.exists(other)


def test_an_empty_gallery(place: Place) -> None:
    some = galleries.entries(4)
    about = About.of(some.table, "cosine", "hnsw")
    gallery = create_gallery(place(), about, Entries.none(about))
    assert gallery.search(np.ones((2, 24)), top=3).rows.tolist() == [[-1]] * 2
    assert verify(gallery)[0] == [] and list(gallery.read()) == []
    assert gallery.stats().first is None and gallery.stats().index == "flat"
    gallery.add(some)
    assert gallery.remove(some.keys).removed == 4 and gallery.stats().entries == 0
    assert gallery.stats().contents == "0" * 64


def test_no_more_is_found_than_there_is(place: Place) -> None:
    """However many are wanted, the answer has room for what there is."""
    gallery = made(place(), galleries.entries(5))
    found = gallery.search(np.ones((2, 24)), top=10**15)
    assert found.rows.shape == (2, 5) and sorted(found.keys(1)) == galleries.entries(5).keys


def test_filters_by_names_that_are_not_utf_8(place: Place) -> None:
    some = table(3)
    names = ["c\udcff", "c0", None]
    gallery = made(place(), entries_of(replace(some, cameras=names)))
    found = gallery.search(some.features[:1], only=Only(cameras=("c\udcff",)))
    assert found.keys(0) == ["t0000"]


@pytest.mark.parametrize("other", ["entries", "network"])
def test_a_gallery_that_was_replaced(place: Place, other: str) -> None:
    """Whoever has it open, such as the web page, finds what is there now, or is told."""
    where, some = place(), galleries.entries(5)
    opened = made(where, some)
    _drop(where)
    new = table(5, first=100, seed=1, model=("0" if other == "entries" else "1") * 64)
    made(where, entries_of(new))
    if other == "entries":
        assert opened.search(new.features[:1], top=1).keys(0) == ["t0100"]
        return
    for use in (lambda: opened.search(new.features), lambda: opened.add(some), opened.stats):
        with pytest.raises(UserError, match="was replaced"):
            use()


def _drop(where: str) -> None:
    if not is_database(where):
        shutil.rmtree(where)
        return
    import psycopg
    from psycopg import sql

    url, _, name = where.partition("#")
    with psycopg.connect(url) as connected:
        connected.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)))


def test_vectors_as_long_as_those_of_a_resnet(place: Place) -> None:
    """More than a page of PostgreSQL holds, and than pgvector's indices take."""
    some = galleries.entries(30, 2048)
    gallery = made(place(), some)
    assert gallery.search(some.table.features[:2]).rows[:, 0].tolist() == [0, 1]
    assert verify(gallery)[0] == []


def test_times() -> None:
    assert parse_time("1.5") == 1.5
    assert parse_time("1970-01-01T01:00:00+01:00") == parse_time("1970-01-01") == 0
    for wrong in ("", "yesterday", "nan", "inf"):
        with pytest.raises(UserError, match="no time"):
            parse_time(wrong)
    with pytest.raises(UserError, match="no time is from 1970-01-01T00:00:03"):
        Only(after=3, before=3)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("key,time\na,1\n", "key, time"),
        ("", "no header"),
        ("name,time\nt0000,1\nt0001,soon\n", "line 3"),
        ("name,time\nt0000\n", "line 2"),
        ("name,time\nt0000,1\nt0000,2\n", "line 3"),
        ("name,time\nabsent,1\n", "'absent'"),
    ],
)
def test_files_of_times_that_are_refused(tmp_path: Path, text: str, says: str) -> None:
    write_features(tmp_path / "f.parquet", table(3))
    (tmp_path / "times.csv").write_text(text)
    words = ("--times", str(tmp_path / "times.csv"))
    done = run("gallery", "create", str(tmp_path / "g"), str(tmp_path / "f.parquet"), *words)
    assert done.returncode == 2 and says in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "g").exists()


def test_lists_with_a_byte_order_mark_and_names_of_odd_letters(tmp_path: Path) -> None:
    """As spreadsheets write them; a name may hold what elsewhere ends a line."""
    some = replace(table(3), names=["a\u2028b", "a", "b"])
    write_features(tmp_path / "f.parquet", some)
    (tmp_path / "times.csv").write_text("name,time\r\na,5\r\n", encoding="utf-8-sig")
    (tmp_path / "gone.txt").write_text("a\u2028b\r\n", encoding="utf-8-sig", newline="")
    where, times = str(tmp_path / "g"), str(tmp_path / "times.csv")
    done = run("gallery", "create", where, str(tmp_path / "f.parquet"), "--times", times)
    assert done.returncode == 0, done.stderr
    assert run("gallery", "remove", where, "--names_from", str(tmp_path / "gone.txt")).stderr == ""
    [left] = open_gallery(where).read()
    assert left.keys == ["a", "b"] and left.times[0] == 5


def test_the_commands(place: Place, tmp_path: Path) -> None:
    where, features, more = place(), str(tmp_path / "f.parquet"), str(tmp_path / "more.parquet")
    write_features(features, table(12))
    write_features(more, table(4, first=10, seed=5))
    (tmp_path / "times.csv").write_text("name,time\nt0001,2026-11-30T07:10:00Z\nt0002,100\n")

    def said(command: str, *words: str, remark: str = "") -> dict:
        done = run("gallery", command, where, *words, "--json")
        assert done.returncode == 0
        assert done.stderr == (f"{where}: {remark}\n" if remark else "")
        return json.loads(done.stdout)

    times = ("--times", str(tmp_path / "times.csv"))
    assert said("create", features, *times)["added"] == 12
    again = run("gallery", "create", where, features)
    assert again.returncode == 2 and "already" in again.stderr
    refused = run("gallery", "add", where, more)
    assert refused.returncode == 2 and "t0010" in refused.stderr
    write_features(more, table(4, first=20, seed=5))
    assert said("add", more) == {"gallery": where, "added": 4, "present": 0}
    stats = said("stats")
    assert (stats["entries"], stats["last"]) == (16, parse_time("2026-11-30T07:10:00Z"))
    [first, *_] = said("search", features, "--top", "2", "--camera", "c1", "--camera", "c2")[
        "queries"
    ]
    assert {row["camera_name"] for row in first["results"]} <= {"c1", "c2"}
    [first, *_] = said("search", features, "--after", "2026-01-01")["queries"]
    assert [row["name"] for row in first["results"]] == ["t0001"]
    remark = "none of 16 tracklets passes --camera c9, --before 5: nothing is found"
    nobody = said("search", features, "--camera", "c9", "--before", "5", remark=remark)
    assert [query["results"] for query in nobody["queries"]] == [[]] * 12
    (tmp_path / "names.txt").write_text("t0020\nt0021\n")
    words = ("t0000", "t0999", "./t0000", "--names_from", str(tmp_path / "names.txt"))
    removed = said("remove", *words, remark="not there, so not removed: t0999")
    assert removed == {"gallery": where, "removed": 3, "absent": 1}
    assert said("verify", "--against", where)["wrong"] == []
    text = run("gallery", "search", where, features, "--top", "1").stdout
    assert NO_PROBABILITIES in text and "t0001" in text
    both = run("gallery", "export", where, "-o", features, "--times", f"{tmp_path}/./f.parquet")
    assert both.returncode == 2 and "is another file of this command" in both.stderr
    words = ("--camera", "c9", "-o", str(tmp_path / "none.parquet"))
    nothing = run("gallery", "export", where, *words)
    assert nothing.returncode == 0 and "none of 13 tracklets passes --camera c9" in nothing.stderr
    assert not len(read_features(tmp_path / "none.parquet"))
    assert "all is right" in run("gallery", "verify", where).stdout
    assert "not known" not in run("gallery", "stats", where).stdout


def test_junk_and_distractors_are_no_identities(place: Place) -> None:
    names = ["0007", "7a", None, "0007", "-1", "00-1", "0000", "-1"]
    some = entries_of(replace(table(8), persons=names))
    where = made(place(), some).where
    stats = json.loads(run("gallery", "stats", where, "--json").stdout)
    assert [stats[kind] for kind in ("persons", "junk", "distractors")] == [2, 3, 1]
    said = "identities 2, and 3 tracklets of junk, 1 tracklet of distractors\n"
    assert said in run("gallery", "stats", where).stdout


def test_queries_that_cannot_be_searched_for(place: Place, tmp_path: Path) -> None:
    gallery, bad = made(place(), galleries.entries(5)), table(5)
    bad.features[3] = np.nan
    write_features(tmp_path / "bad.parquet", bad)
    write_features(tmp_path / "other.parquet", table(2, model="1" * 64))
    write_features(tmp_path / "empty.parquet", table(0))
    for query, says in (
        ("empty.parquet", "empty.parquet holds no tracklets"),
        ("bad.parquet", "vector of tracklet 't0003' is not finite"),
        ("other.parquet", "extract both with one"),
        ("", f"reid search --checkpoint C --gallery {gallery.where}"),
        ("clip.mp4", "computes the features of folders and videos"),
    ):
        done = run("gallery", "search", gallery.where, str(tmp_path / query))
        assert done.returncode == 2 and says in done.stderr, done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_verify_against_another_gallery(place: Place, tmp_path: Path) -> None:
    one = made(place(), galleries.entries(30))
    two = made(str(tmp_path / "other"), galleries.entries(31))
    done = run("gallery", "verify", one.where, "--against", two.where)
    assert done.returncode == 1
    assert "entries differ: 30" in done.stdout and "contents differ" in done.stdout


def test_verify_while_another_process_removes(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery = made(place(), galleries.entries(30))
    writer, search = open_gallery(gallery.where), gallery.search

    def search_late(*words: Any, **options: Any) -> Answer:
        writer.remove(galleries.entries(30).keys)
        return search(*words, **options)

    monkeypatch.setattr(gallery, "search", search_late)
    with pytest.raises(UserError, match="was changed while"):
        verify(gallery)


def test_times_that_are_not_known_are_nan() -> None:
    some = galleries.entries(4)
    assert [math.isnan(time) for time in some.times] == [False, True, True, False]
