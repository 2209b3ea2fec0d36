"""``reid search``: what it prints and writes, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reid import evaluate_features
from reid.cli.features import Search
from reid.data.tracklet import Tracklet
from reid.report.search_page import tracklet_frames
from reid.retrieval.features import FeatureTable, read_features, write_features
from reid.retrieval.searching import run_search
from tests.processes import largest_file
from tests.reid.evaluations import draw_tracklet, make_table
from tests.reid.test_features import make_table as features_table
from tests.videos import write_video
from video_snl.errors import UserError


@pytest.fixture
def tracklets(tmp_path: Path) -> list[Tracklet]:
    """Ten folders of frames of ten identities, cameras 0 and 1."""
    names = [f"<b>{index}" for index in range(10)]
    return [
        draw_tracklet(tmp_path / "gallery" / name, 1 + index, index % 2, 2 + index % 3, (8, 16))
        for index, name in enumerate(names)
    ]


@pytest.fixture
def table(tracklets: list[Tracklet]) -> FeatureTable:
    names = [str(Path(tracklet.path).parent) for tracklet in tracklets]
    features = np.random.default_rng(0).normal(size=(10, 6))
    return make_table(tracklets, features, names=names)


@pytest.fixture
def gallery(table: FeatureTable, tmp_path: Path) -> str:
    write_features(tmp_path / "feats.parquet", table)
    return str(tmp_path / "feats.parquet")


@pytest.fixture
def extracted(
    table: FeatureTable, tracklets: list[Tracklet], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    """Lets the features of queries be those of gallery rows of the same name, a little off."""

    def prepare(**changes: object) -> None:
        def extract(
            checkpoint: Path, paths: Sequence[str], *, test_frames: int | None, **_: object
        ) -> FeatureTable:
            rows = [table.names.index(str(path)) for path in paths]
            changed: dict[str, Any] = {
                "names": list(paths),
                "person_ids": np.full(len(rows), -1),
                "camera_ids": np.full(len(rows), -1),
                "test_frames": test_frames,
                **changes,
            }
            features = changed.pop("features", table.features[rows])
            return make_table([tracklets[row] for row in rows], features, **changed)

        monkeypatch.setattr("reid.retrieval.extract.extract_tracklets", extract)
        monkeypatch.setattr("reid.trained.find_checkpoint", Path)

    prepare()
    return prepare


def searched(checkpoint: str | None, gallery: str, queries: Sequence[str], **options: Any) -> int:
    given = Search(checkpoint=checkpoint, gallery=gallery, queries=list(queries), **options)
    return run_search(given)


def _nearest(table: FeatureTable, row: int, metric: str) -> list[tuple[float, int]]:
    features = np.asarray(table.features, dtype=np.float64)
    if metric == "cosine":
        features = features / np.linalg.norm(features, axis=1, keepdims=True)
        return sorted((1 - float(features[row] @ other), i) for i, other in enumerate(features))
    return sorted((float(np.linalg.norm(features[row] - o)), i) for i, o in enumerate(features))


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.usefixtures("extracted")
def test_json_has_the_nearest(
    table: FeatureTable, gallery: str, metric: str, capsys: pytest.CaptureFixture[str]
) -> None:
    queries = [table.names[3], table.names[7]]
    code = searched("c.ckpt", gallery, queries, metric=metric, top=4, json=True)
    answer = json.loads(capsys.readouterr().out)
    assert code == 0 and answer["tracklets"] == 10 and answer["metric"] == metric
    assert [query["name"] for query in answer["queries"]] == queries
    for row, query in zip((3, 7), answer["queries"], strict=True):
        expected = _nearest(table, row, metric)[:4]
        assert [result["name"] for result in query["results"]] == [
            table.names[index] for _, index in expected
        ]
        distances = [result["distance"] for result in query["results"]]
        assert distances == pytest.approx([distance for distance, _ in expected], abs=1e-5)
        assert [result["rank"] for result in query["results"]] == [1, 2, 3, 4]
        assert query["results"][0]["person"] == row + 1
        assert query["results"][0]["camera"] == row % 2


@pytest.mark.usefixtures("extracted")
def test_the_table_says_what_is_unknown(
    table: FeatureTable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unknown = np.full(10, -1)
    path = tmp_path / "unknown.parquet"
    write_features(path, dataclasses.replace(table, person_ids=unknown, camera_ids=unknown))
    assert searched("c.ckpt", str(path), table.names[:1], top=30) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"10 tracklets in {path}"
    assert lines[2] == f"query {table.names[0]} (2 frames)"
    assert lines[3].split() == ["rank", "distance", "person", "camera", "tracklet"]
    assert len(lines[4:]) == 12 and lines[-2] == "" and "not probabilities" in lines[-1]
    assert lines[4].split() == ["1", "0.0000", "-", "-", table.names[0]]


def test_skipped_frames_of_a_query_are_said(
    table: FeatureTable,
    gallery: str,
    extracted: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    extracted(skipped_frames=np.array([3]))
    searched("c.ckpt", gallery, table.names[:1])
    assert "(2 frames, 3 more unreadable and skipped)" in capsys.readouterr().out


@pytest.mark.usefixtures("extracted")
def test_an_approximate_index_prints_its_recall(
    table: FeatureTable, gallery: str, capsys: pytest.CaptureFixture[str]
) -> None:
    searched("c.ckpt", gallery, table.names[:2], index="hnsw", top=3)
    assert "recall of the hnsw index against exact search: 100.0%" in capsys.readouterr().out
    searched("c.ckpt", gallery, table.names[:2], index="exact", top=3)
    assert "recall" not in capsys.readouterr().out


@pytest.mark.usefixtures("extracted")
def test_the_page_shows_strips_and_survives_lost_pictures(
    table: FeatureTable, gallery: str, tracklets: list[Tracklet], tmp_path: Path
) -> None:
    for frame in tracklets[4].frames:
        Path(frame).unlink()
    Path(tracklets[4].path).parent.rmdir()
    Path(tracklets[5].path).write_bytes(b"broken")
    page = tmp_path / "found.html"
    assert searched("c.ckpt", gallery, table.names[:2], page=str(page)) == 0
    text = page.read_text()
    assert text.count('<img src="data:image/jpeg') == 2 * 11
    assert text.count("none found") == 2 * 2  # in the alternative text, too
    assert "<b>" not in text and "&lt;b&gt;3" in text
    assert "http" not in text and "file:" not in text
    assert sorted(tmp_path.glob("*.html")) == [page]


def test_frames_are_found_by_folder_first_frame_and_video(
    tracklets: list[Tracklet], tmp_path: Path
) -> None:
    folder = Path(tracklets[8].path).parent
    first = tracklets[8].frames[1]
    video = tmp_path / "walk.mp4"
    write_video(video, frames=9)
    gone = str(tmp_path / "gone")
    lengths = {str(folder): 4, first: 2, str(video): 9, gone: 3, f"{gone}/1.jpg": 1}
    found = tracklet_frames(lengths, num_workers=0)
    assert tuple(found[str(folder)]) == tracklets[8].frames
    assert tuple(found[first]) == tracklets[8].frames[1:3]
    assert [image.size for image in found[str(video)]] == [(64, 48)] * 4  # type: ignore[union-attr]
    assert gone not in found and not found[f"{gone}/1.jpg"]


def test_features_of_another_network_are_refused(
    table: FeatureTable, gallery: str, extracted: Callable[..., None]
) -> None:
    extracted(model="1" * 64)
    one, other = table.model[:12], "1" * 12
    with pytest.raises(UserError, match=rf"\(hash {one}\), the query's of .* \(hash {other}\)"):
        searched("c.ckpt", gallery, table.names[:1])
    extracted(features=table.features[:1, :5])
    with pytest.raises(UserError, match=r"have dimension 6 \(of .*\), the query's 5 \(of "):
        searched("c.ckpt", gallery, table.names[:1])


@pytest.mark.parametrize("page", ["", "gallery", "feats.parquet/p.html", "feats.parquet/a/p.html"])
def test_a_page_that_cannot_be_written_is_refused_before_the_search(
    table: FeatureTable,
    gallery: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    page: str,
) -> None:
    monkeypatch.setattr(
        "reid.retrieval.extract.extract_tracklets", lambda *_: pytest.fail("searched")
    )
    message = "feats.parquet is a file, no folder" if "/" in page else "is a folder"
    with pytest.raises(UserError, match=f"--page .*{message}"):
        searched("c.ckpt", gallery, table.names[:1], page=str(tmp_path / page))


@pytest.mark.usefixtures("extracted")
def test_the_answer_is_printed_where_writing_the_page_fails(
    table: FeatureTable, gallery: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, large = tmp_path / "p.html", r"--page .*p.html cannot be written \(File too large\)"
    with largest_file(5000), pytest.raises(UserError, match=large):
        searched("c.ckpt", gallery, table.names[:1], page=str(page))
    assert table.names[0] in capsys.readouterr().out


def test_queries_are_of_as_many_frames_as_the_gallery(
    table: FeatureTable, tmp_path: Path, extracted: Callable[..., None]
) -> None:
    path = tmp_path / "two.parquet"
    write_features(path, dataclasses.replace(table, test_frames=2))
    assert searched("c.ckpt", str(path), table.names[:1]) == 0
    extracted(test_frames=None)
    with pytest.raises(UserError, match="of --test_frames 2, the query's of --test_frames all"):
        searched("c.ckpt", str(path), table.names[:1])


@pytest.mark.usefixtures("extracted")
def test_bad_input_is_said_in_one_line(table: FeatureTable, gallery: str, tmp_path: Path) -> None:
    query = table.names[:1]
    empty = tmp_path / "empty.parquet"
    none = {
        "names": [],
        **{
            name: getattr(table, name)[:0]
            for name in ("person_ids", "camera_ids", "num_frames", "skipped_frames", "features")
        },
    }
    write_features(empty, dataclasses.replace(table, **none))
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"no parquet")
    cases: list[tuple[str, list[str], int, str]] = [
        (gallery, [], 10, "no query"),
        (gallery, [str(tmp_path / "nobody")], 10, "nobody does not exist"),
        (str(tmp_path / "no.parquet"), query, 10, "no.parquet does not exist: .*reid gallery"),
        (str(tmp_path), query, 10, "is no gallery"),
        (gallery, query, 0, "--top 0"),
        (str(empty), query, 10, "nothing to search in"),
        (str(broken), query, 10, "broken.parquet"),
    ]
    for file, queries, top, message in cases:
        with pytest.raises(UserError, match=message) as caught:
            searched("c.ckpt", file, queries, top=top)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [100_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_a_large_gallery(size: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From files: search finds what was planted, and evaluation ranks it first."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(size, 16)).astype(np.float32)
    planted = rng.permutation(size)[:20]
    zeros = np.zeros(size, dtype=np.int64)
    gallery = features_table(
        size,
        names=[f"tracklet {row}" for row in range(size)],
        features=features,
        person_ids=np.arange(1, size + 1),
        camera_ids=zeros,
        num_frames=zeros,
        skipped_frames=zeros,
    )
    query = dataclasses.replace(
        gallery,
        names=[f"query {row}" for row in planted],
        features=features[planted] * 2 + 0.01,
        person_ids=gallery.person_ids[planted],
        camera_ids=zeros[:20] + 1,
        num_frames=zeros[:20],
        skipped_frames=zeros[:20],
    )
    paths = tmp_path / "query.parquet", tmp_path / "gallery.parquet"
    for path, table in zip(paths, (query, gallery), strict=True):
        write_features(path, table)
    assert searched(None, str(paths[1]), [str(paths[0])], json=True) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["tracklets"] == size
    nearest = [found["results"][0]["name"] for found in answer["queries"]]
    assert nearest == [f"tracklet {row}" for row in planted]
    ranking = evaluate_features(read_features(paths[0]), read_features(paths[1]))
    assert ranking.mean_ap == 1 and ranking.num_valid_queries == 20
