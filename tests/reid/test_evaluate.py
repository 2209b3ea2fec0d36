"""Results of ``reid evaluate``: measured, printed and written."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from reid.data.tracklet import ReidData, Tracklet, own_entries
from reid.evaluate import Options
from reid.metrics.ranking import count_as_wrong, evaluate_ranking
from reid.trained import check_identities, load_trained
from tests.reid.little import options, run, write_tracklet
from tests.tiny import only_run
from video_snl.errors import UserError


@pytest.fixture(scope="module")
def both(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Output by both protocols, and the folder of the report."""
    folder = tmp_path_factory.mktemp("report")
    words = ["--checkpoint", str(trained), "--protocol", "both", "--report", str(folder)]
    done = run("evaluate", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout, folder


def test_every_protocol_is_a_row_and_the_report_is_written(both: tuple[str, Path]) -> None:
    shown, folder = both
    assert "folder, split 0, epoch" in shown and "3 queries, 4 gallery tracklets (1 dis" in shown
    assert "all frames, in chunks of 2" in shown
    for name in ("rank-1", "rank-20", "mAP", "mINP", "no match", "common  ", "official  "):
        assert name in shown
    assert f"report: {folder / 'report.html'}" in shown
    metrics = json.loads((folder / "metrics.json").read_text())
    assert set(metrics["rankings"]) == {"common", "official"}
    assert (folder / "report.html").stat().st_size > 10_000


def test_json_is_the_same_and_nothing_else(trained: Path, both: tuple[str, Path]) -> None:
    done = run("evaluate", "--checkpoint", str(trained), "--protocol", "both", "--json")
    shown = json.loads(done.stdout)
    written = json.loads((both[1] / "metrics.json").read_text())
    assert shown["rankings"] == written["rankings"]
    assert (trained / "report" / "report.html").is_file()


def test_sampled_frames_and_the_euclidean_metric(trained: Path) -> None:
    words = ["--test_frames", "3", "--metric", "euclidean", "--max_rank", "2"]
    done = run("evaluate", "--checkpoint", str(trained), *words)
    assert done.returncode == 0, done.stderr
    assert "3 evenly spaced frames, euclidean distance" in done.stdout
    assert "official" not in done.stdout


def test_the_largest_rank_of_the_curve_changes_no_figure(
    trained: Path, both: tuple[str, Path], tmp_path: Path
) -> None:
    words = ["--protocol", "both", "--max_rank", "1", "--report", str(tmp_path)]
    done = run("evaluate", "--checkpoint", str(trained), *words)
    assert done.returncode == 0, done.stderr
    wanted = json.loads((both[1] / "metrics.json").read_text())["rankings"]
    assert json.loads((tmp_path / "metrics.json").read_text())["rankings"] == wanted
    # Four entries in the gallery: all is found at rank 5.
    assert wanted["common"]["rank5"] == 1 and wanted["common"]["rank20"] == 1


def test_unreadable_frames_and_tracklets_are_said_and_counted(
    trained: Path, dataset: Path, tmp_path: Path
) -> None:
    root = tmp_path / "people"
    shutil.copytree(dataset, root)
    (root / "query/102/c0/t0/0001.png").write_bytes(b"no image")
    for place in ("query/101/c0/t0", "gallery/0000/c1/t0"):
        for frame in (root / place).iterdir():
            frame.write_bytes(b"no image")
    done = run("evaluate", "--checkpoint", str(trained), "--root", str(root), "--json")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    ranking = shown["rankings"]["common"]
    assert (ranking["queries"], ranking["queries_counted"]) == (3, 3)
    assert ranking["rank20"] == pytest.approx(2 / 3) and ranking["mAP"] <= 2 / 3 + 1e-9
    assert sum(shown["skipped_frames"].values()) == 1
    assert [Path(name).parts[-5:-2] for name in shown["unreadable"]] == [
        ("query", "101", "c0"),
        ("gallery", "0000", "c1"),
    ]
    done = run("evaluate", "--checkpoint", str(trained), "--root", str(root))
    assert "queries that cannot be read, they count as wrong: 1 (" in done.stdout
    assert "gallery tracklets that cannot be read, they are left out: 1 (" in done.stdout
    assert "frames that could not be read and were skipped: 1, in 1 tracklet:" in done.stdout


def test_lost_queries_are_counted_as_their_protocol_counts() -> None:
    distances = torch.tensor([[0.1, 0.2, 0.3], [0.3, 0.1, 0.2], [0.1, 0.2, 0.3]])
    ids = torch.tensor([1, 2, 9]), torch.tensor([1, 2, 3])
    cameras = torch.tensor([0, 0, 0]), torch.tensor([1, 1, 1])
    for protocol, counted in (("common", 2), ("official", 3)):
        ranking = evaluate_ranking(distances, *ids, *cameras, protocol=protocol)  # type: ignore[arg-type]
        with_lost = count_as_wrong(ranking, matched=1, lost=2)
        more = 1 if protocol == "common" else 2
        assert with_lost.mean_ap == pytest.approx(ranking.mean_ap * counted / (counted + more))
        assert (with_lost.num_queries, with_lost.num_valid_queries) == (5, 3)


def test_people_that_were_trained_on_are_not_searched_for(trained: Path) -> None:
    network = load_trained(trained / "checkpoints" / "last.ckpt")
    data = ReidData("folder", [], [Tracklet(("a.png",), 2, 0)], [Tracklet(("b.png",), 2, 1)])
    with pytest.raises(UserError, match=r"trained on 1 of the identities .* \(the first is 2\)"):
        check_identities(network, network.experiment, data)
    elsewhere = replace(
        network.experiment, data=replace(network.experiment.data, root="/own/people")
    )
    check_identities(network, elsewhere, data)


def test_several_checkpoints_are_measured_each_on_its_split(
    dataset: Path, trained: Path, tmp_path: Path
) -> None:
    words = options(dataset, tmp_path, trainer__seed=1, optimizer__epochs=1)
    assert run("train", *words).returncode == 0
    runs = [trained, only_run(tmp_path)]
    words = [word for folder in runs for word in ("--checkpoint", str(folder))]
    report = tmp_path / "report"
    done = run("evaluate", *words, "--json", "--report", str(report))
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert {folder.name for folder in report.iterdir()} == {folder.name for folder in runs}
    values = [each["rankings"]["common"]["mAP"] for each in shown["checkpoints"]]
    over = shown["over_checkpoints"]["common"]["mAP"]
    assert over["mean"] == pytest.approx(sum(values) / 2)
    assert over["std"] == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    done = run("evaluate", *words, "--report", str(report), "--test_frames", "1")
    assert "over 2 checkpoints (of splits 0, 0)" in done.stdout and "+-" in done.stdout


def test_a_folder_of_runs_means_the_newest_of_every_split(trained: Path) -> None:
    done = run("evaluate", "--checkpoint", str(trained.parent), "--test_frames", "1")
    assert done.returncode == 0, done.stderr
    assert f"of {trained / 'checkpoints'}" in done.stdout
    done = run("evaluate", "--checkpoint", str(trained.parent), "--dataset", "mars")
    assert done.returncode == 2 and "no finished run of dataset mars" in done.stderr


def test_the_newest_run_of_the_data_set_is_the_default(trained: Path) -> None:
    words = ["--trainer.output", str(trained.parent), "--test_frames", "1"]
    done = run("evaluate", "--dataset", "folder", *words)
    assert done.returncode == 0, done.stderr
    assert f"of {trained / 'checkpoints'}" in done.stdout
    done = run("evaluate", "--dataset", "prid2011", *words)
    assert done.returncode == 2 and "found no run of dataset prid2011" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--test_frames", "0"], "--test_frames 0: give all"),
        (["--rerank_memory", "0"], "--rerank_memory 0: give GiB"),
        (["--rerank", "--rerank_memory", "1e-6"], "--rerank_memory GIB"),
        (["--max_rank", "0"], "--max_rank 0: give 1 or more"),
        (["--model.head", "rnn"], "holds another network (model.head: 'rnn' asked for"),
        (["--split", "3"], "split 3 of folder does not exist"),
        (["--data.frames", "0"], "data.frames=0 must be at least 1"),
        (["--data.height", "0"], "data.height=0 must be at least 1"),
        (["--data.num_workers", "-1"], "data.num_workers=-1 must be at least 0"),
        (["--root", "/nowhere"], "--root /nowhere does not exist"),
    ],
)
def test_bad_options_are_one_line(trained: Path, words: list[str], message: str) -> None:
    done = run("evaluate", "--checkpoint", str(trained), *words)
    assert done.returncode == 2 and message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("below", ["", "report"])
def test_a_file_in_the_place_of_the_report_is_refused_before_the_work(
    trained: Path, tmp_path: Path, below: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reid.evaluate.load_trained", lambda _: pytest.fail("evaluated"))
    (tmp_path / "file").touch()
    done = run("evaluate", "--checkpoint", str(trained), "--report", str(tmp_path / "file" / below))
    assert done.returncode == 2
    assert done.stderr.endswith(f"{tmp_path / 'file'} is a file, no folder\n")
    assert len(done.stderr.strip().splitlines()) == 1


def test_too_many_unreadable_tracklets_stop(trained: Path, dataset: Path, tmp_path: Path) -> None:
    root = tmp_path / "people"
    shutil.copytree(dataset, root)
    for frame in (root / "query").rglob("*.png"):
        frame.write_bytes(b"no image")
    words = ["--root", str(root), "--data.max_failures", "0", "--report", str(tmp_path / "report")]
    done = run("evaluate", "--checkpoint", str(trained), *words)
    assert done.returncode == 2 and "3 of 3 test tracklets cannot be read" in done.stderr
    assert not list((tmp_path / "report").glob("*.html"))


@pytest.fixture(scope="module")
def one_camera(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of one camera, whose gallery holds copies of the queries."""
    root = tmp_path_factory.mktemp("one") / "people"
    for part in ("train", "query", "gallery"):
        for person in sorted((dataset / part).iterdir()):
            for number, tracklet in enumerate(sorted(person.glob("*/*"))):
                shutil.copytree(tracklet, root / part / person.name / "c0" / f"{number}")
    for person in sorted((dataset / "query").iterdir()):
        copy = root / "gallery" / person.name / "c0" / "copy"
        shutil.copytree(person / "c0" / "t0", copy)
    return root


def test_one_camera_is_evaluated_where_cameras_are_ignored(
    trained: Path, one_camera: Path, tmp_path: Path
) -> None:
    words = ["--checkpoint", str(trained), "--root", str(one_camera), "--report", str(tmp_path)]
    refused = run("evaluate", *words)
    assert refused.returncode == 2 and "--cameras ignore" in refused.stderr
    done = run("evaluate", *words, "--cameras", "ignore", "--protocol", "all", "--rerank")
    assert done.returncode == 0, done.stderr
    assert "cameras are ignored" in done.stdout
    assert "cameras are ignored" in (tmp_path / "report.html").read_text().lower()
    found = json.loads((tmp_path / "metrics.json").read_text())
    assert found["settings"]["cameras"] == "ignore"
    for ranking in found["rankings"].values():
        assert (ranking["cameras"], ranking["queries_counted"]) == ("ignore", 3)
    with open(tmp_path / "rankings.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    # Each query's copy is nearest to it, and is itself: neither right nor wrong.
    copies = [row for row in rows if "copy" in row["tracklet"] and row["verdict"] == "junk"]
    assert len(copies) == 3 and {row["rank"] for row in copies} == {""}
    assert sum(row["verdict"] == "right" for row in rows) == 3
    # The one true match of each query is what the figures are of.
    first = [int(row["rank"]) for row in rows if row["verdict"] == "right"]
    expected = sum(1 / rank for rank in first) / 3
    assert found["rankings"]["common"]["mAP"] == pytest.approx(expected)


def test_one_camera_can_be_trained_on(one_camera: Path, tmp_path: Path) -> None:
    words = options(one_camera, tmp_path, optimizer__epochs=1)
    refused = run("train", *words)
    assert refused.returncode == 2 and "--cameras ignore" in refused.stderr
    done = run("train", *words, "--cameras", "ignore")
    assert done.returncode == 0, done.stderr
    done = run("evaluate", "--checkpoint", str(tmp_path), "--report", str(tmp_path / "report"))
    assert done.returncode == 0 and "cameras are ignored" in done.stdout, done.stderr


def test_all_protocols_of_mars_stand_side_by_side(trained: Path, tmp_path: Path) -> None:
    words = ["--checkpoint", str(trained), "--report", str(tmp_path), "--protocol", "all"]
    done = run("evaluate", *words)
    assert done.returncode == 0, done.stderr
    rankings = json.loads((tmp_path / "metrics.json").read_text())["rankings"]
    assert list(rankings) == ["common", "official", "queries-kept"]
    assert all(f"\n{name} " in done.stdout for name in rankings)
    assert Options().protocols("mars") == list(rankings)
    assert Options(protocol="both").protocols("mars") == ["common", "official"]


def test_copies_and_links_of_a_query_are_found(tmp_path: Path) -> None:
    frames = write_tracklet(tmp_path / "a", 1, 0)
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    write_tracklet(tmp_path / "other", 1, 1)

    def like(name: str, person: int = 1) -> Tracklet:
        return Tracklet(tuple(str(tmp_path / name / Path(f).name) for f in frames), person, 0)

    gallery = [like("other"), like("copy"), like("copy", 2), like("link"), like("nowhere")]
    assert own_entries([like("a"), like("other")], gallery) == [(0, 1), (0, 3), (1, 0)]


def test_many_tracklets_of_one_person_are_not_all_compared(tmp_path: Path) -> None:
    """3,000 images of one size, each copied: 9 million pairs, of which the equal ones are found."""
    for part in ("query", "gallery"):
        (tmp_path / part).mkdir()
        for number in range(3000):
            (tmp_path / part / f"{number}").write_text(f"{number:04d}")
    query, gallery = (
        [Tracklet((str(tmp_path / part / f"{number}"),), 1, 0) for number in range(3000)]
        for part in ("query", "gallery")
    )
    gallery.reverse()
    assert own_entries(query, gallery) == [(number, 2999 - number) for number in range(3000)]
    assert own_entries(query, query) == [(number, number) for number in range(3000)]
