"""The paper's figures: as they are printed, in every form of a table."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from video_snl.cli.main import main
from video_snl.tables import networks
from video_snl.tables.cells import cells_of
from video_snl.tables.networks import Size
from video_snl.tables.paper import FIGURES, Printed, printed_of
from video_snl.tables.report import as_csv, as_json, markdown, paper_section
from video_snl.tables.rows import rows_of
from video_snl.tables.settings import Choices, plans
from video_snl.tables.store import Contents, Result

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "paper_tables.yaml"

# Lines of the tables, typed in by themselves.
LINES = {
    2: """no block | 75.33 | 93.97
        NL Cs = C | 75.29 | illegible
        NS Cs = C | 75.39 | illegible
        A2 Cs = C | 75.51 | illegible
        CGNL Cs = C | 74.71 | illegible
        SNL Cs = C | 76.34 | 94.48
        NL Cs = C/2 | 75.31 | 92.84
        SNL Cs = C/2 | 76.41 | 94.38
        A2 Cs = C/4 | 75.61 | illegible
        SNL Cs = C/4 | 76.02 | 94.08""",
    3: """A2 stage 1 | 75.58 | 94.27
        CGNL stage 2 | 74.54 | 92.65
        SNL stage 2 | 76.29 | 94.27
        NL stage 3 | 75.28 | 93.93
        CGNL stage 3 | 74.90 | illegible
        SNL stage 3 | 75.68 | 93.90""",
    4: """no block | 94.94 | 99.87
        NL | 94.01 | illegible
        SNL | 95.32 | 99.94
        CGNL | 75.75 | 93.74
        NS | 77.90 | 94.34
        CGNL | 74.88 | 92.56
        SNL | 78.17 | 94.17""",
    5: """NS x1 | 75.83 | 93.87
        NL x3 | 74.34 | 93.11
        A2 x3 | 75.63 | 94.12
        CGNL x3 | illegible | 93.10
        SNL x3 | 76.70 | 93.94""",
    6: """no block | 76.15 | 4.14 G | 25.56 M
        CGD | 76.90 | +0.01 G | +0.02 M
        SE | 77.72 | +0.10 G | +2.62 M
        GE | 78.00 | +0.10 G | +5.64 M
        simplified NL | 77.28 | illegible | +1.05 M
        CGNL | 77.32 | +0.41 G | +2.09 M
        SNL | 78.11 | +0.51 G | +2.62 M""",
    7: """no block | 81.57 | 95.40 | 10.10 G | 47.02 M
        NL | 82.88 | 95.74 | +0.21 G | +2.10 M
        NS | 82.50 | 95.84 | +0.26 G | +2.10 M
        A2 | 82.68 | 95.85 | +0.21 G | +2.10 M
        CGNL | 83.38 | 95.42 | +0.21 G | +2.10 M
        SNL | 84.39 | 97.66 | +0.26 G | +2.62 M""",
    8: """no block | 69.19 | 76.60 | 395.76 G | 47.13 M
        NL | 74.15 | 81.83 | +4.31 G | +0.53 M
        NS | 75.44 | 83.36 | +5.37 G | +0.53 M
        CC | 75.34 | 82.75 | +5.37 G | +0.33 M
        DNL | 76.19 | 84.61 | +4.31 G | +0.53 M
        SNL_a2 | 75.94 | 83.85 | +5.37 G | +0.66 M
        SNL | 76.87 | 84.75 | +5.37 G | +0.66 M""",
}
NOTES = {
    4: ("printed as 1.33; the printed accuracies differ by 1.13", "printed as 0.39"),
    5: ("the difference of A2 x3 is printed as 0.33; the printed accuracies differ by 0.30",),
    7: ("The parameters of no block are those with the 400 classes of Kinetics.",),
    8: ("The mIoU of no block is the one that the printed differences give.",),
}


@pytest.fixture
def no_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes are not counted, which takes seconds and has tests of its own."""
    monkeypatch.setattr(networks, "sizes_of", lambda planned: [Size(1, 2, 3, 4)] * len(planned))
    monkeypatch.setattr(networks, "check_cell", lambda experiment: None)


@pytest.mark.usefixtures("no_networks")
@pytest.mark.parametrize("number", LINES)
def test_a_dry_run_shows_the_papers_table(
    number: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["table", str(number), "--dry_run", "-o", str(tmp_path)]
    assert main([*words, "--configs", str(ROOT / "configs")]) == 0
    shown = capsys.readouterr().out
    for line in LINES[number].splitlines():
        assert f"| {line.strip()} |" in shown
    for note in NOTES.get(number, ()):
        assert note in shown
    assert ("are additions to it" in " ".join(shown.split())) == (number in (6, 7, 8))
    assert "The paper's settings: " in shown
    assert "not at hand" not in shown


def test_every_figure_of_the_copy_of_the_paper_is_shown() -> None:
    if not SHARED.is_file():
        pytest.skip(f"no {SHARED}, the figures as they were taken from the paper")
    tables = yaml.safe_load(SHARED.read_text(encoding="utf-8"))
    for number, figures in FIGURES.items():
        ours = [
            sorted(_plain(values) for values in rows.values()) for rows in figures.groups.values()
        ]
        table = tables[f"table{number}"]
        groups = list(table.values()) if number == 4 else [_flat(table)]
        theirs = [
            sorted(_plain(v.values() if isinstance(v, dict) else v) for v in group.values())
            for group in groups
        ]
        assert ours == theirs, f"table {number}"
        shown = paper_section(number)
        for value in re.findall(r"\d+\.\d+", " ".join(str(row) for g in theirs for row in g)):
            assert f"{float(value):.2f}" in shown


def _flat(table: dict[str, Any]) -> dict[str, Any]:
    """Return the rows of a table that may hold several settings of them."""
    rows = {}
    for name, value in table.items():
        nested = isinstance(value, dict) and all(isinstance(v, list) for v in value.values())
        rows |= {f"{row}/{name}": of for row, of in value.items()} if nested else {name: value}
    return rows


def _plain(values: Any) -> tuple[str, ...]:
    return tuple("illegible" if value is None else f"{value:.2f}" for value in values)


def test_a_setting_stands_with_its_own_figure() -> None:
    group = ("cifar100", "preresnet56_snl")
    assert printed_of(2, group, "snl/Cs=C/4").measures == {"val/top1": 76.02, "val/top5": 94.08}
    assert printed_of(2, group, "cgnl/Cs=C/4").measures["val/top5"] is None
    assert printed_of(3, group, "ns/stage2").measures["val/top1"] == 75.74
    assert printed_of(5, group, "nl/x3").measures["val/top5"] == 93.11
    assert printed_of(5, group, "dnl/x3") == Printed()
    assert printed_of(4, ("cifar10", "resnet50_cifar"), "snl").measures["val/top1"] == 95.32
    assert printed_of(4, ("cifar10", "preresnet56_snl"), "snl") == Printed()
    simplified = printed_of(6, ("imagenet", "resnet50"), "simpnl")
    assert (simplified.multiply_adds, simplified.parameters) == ("illegible", "+1.05 M")


def test_every_form_has_the_figures() -> None:
    cells = cells_of(5, blocks=["cgnl", "dnl"])
    planned = plans(cells, Choices(ROOT / "configs"))
    metrics = {name: {"val/top1": 0.75, "val/top5": 0.94} for name in ("last", "best")}
    results = [Result(5, cells[2].row, 0, planned[2].settings, metrics, "run", 1.0)]
    sizes = [Size(1, 2, 3, 4)] * len(planned)
    rows = rows_of(planned, sizes, Contents(results, []), range(1), {})

    text = markdown(5, rows, [])
    assert "| paper's | ours - paper's | paper's top-5 |" in text
    assert "| CGNL x1 | 0 | - | - | - | - | - | 75.75 | - | 93.74 |" in text
    assert "| CGNL x3 | 1 | 75.00 | 75.00 | 94.00 | - | - | illegible | - | 93.10 |" in text
    assert "| DNL x3 | 0 | - | - | - | - | - | - | - | - |" in text
    assert "Ours: images of 32 x 32, 300 epochs, batches of " in text
    assert "learning rate 0.1 (milestones), drops at epochs 150 and 250" in text

    plain = json.loads(json.dumps(as_json(rows)))
    assert plain[1]["paper"] == 75.75 and plain[2]["paper"] is None
    assert plain[2]["printed"]["measures"] == {"val/top1": None, "val/top5": 93.10}
    assert plain[4]["printed"]["measures"] == {}
    assert plain[2]["settings"] == [planned[2].settings]
    assert "150 and 250 of 300 epochs" in plain[0]["paper_settings"]
    assert "0.33" in plain[0]["paper_notes"][0]

    lines = list(csv.DictReader(io.StringIO(as_csv(rows))))
    assert [line["paper_top1"] for line in lines] == ["75.33", "75.75", "illegible", "", ""]
    assert [line["paper_top5"] for line in lines][1:3] == ["93.74", "93.10"]
    assert (lines[2]["seed"], lines[2]["last"], lines[3]["last"]) == ("0", "75.0000", "")
    assert lines[2]["settings"] == planned[2].settings


@pytest.mark.slow
@pytest.mark.usefixtures("stand_in", "no_networks")
def test_videos_are_trained_on_several_splits_and_shown_as_one_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ucf5").mkdir()
    words = ["table", "7", "--dataset", "ucf5", "--splits", "1", "2", "--backbones", "i3d_small"]
    words += ["--blocks", "nl", "snl", "--seeds", "2", "--root", str(tmp_path / "ucf5")]
    words += ["--configs", str(ROOT / "configs"), "-o", str(tmp_path / "out"), "--jobs", "2"]
    assert main([*words, "--seeds", "1"]) == 0
    assert "6 of 6: ucf5/i3d_small/" in capsys.readouterr().err
    assert main(words) == 0
    shown = capsys.readouterr()
    assert "table 7: 6 of 12 trainings done" in shown.err
    # 55, 56, 65 and 66 per cent: means of the stand-in, a hundredth a seed and a tenth for split 2.
    assert "| SNL | 4 (2 splits) | 60.50 ± 5.80 | 62.50 ± 5.80 |" in shown.out
    assert "+5.00 (the same for every seed)" in shown.out
    assert "Ours: clips of 8 x 64 x 64, every 4. frame, 20 epochs" in shown.out
    assert "| SNL | 84.39 | 97.66 | +0.26 G | +2.62 M |" in shown.out
    lines = list(csv.DictReader((tmp_path / "out" / "table7.csv").open(encoding="utf-8")))
    found = [(line["split"], line["seed"], line["last"]) for line in lines if "/snl" in line["row"]]
    assert found == [
        ("1", "0", "55.0000"),
        ("1", "1", "56.0000"),
        ("2", "0", "65.0000"),
        ("2", "1", "66.0000"),
    ]
    rows = json.loads((tmp_path / "out" / "table7.json").read_text(encoding="utf-8"))
    assert rows[2]["row"] == "ucf5/i3d_small/snl" and rows[2]["splits"] == ["1", "2"]
    assert rows[2]["last"]["2/1"] == pytest.approx(66)

    assert main([*words, "--weights", "null"]) == 0
    assert "12 of 12 trainings done" in capsys.readouterr().err
    assert main([*words, "--set", "optimizer.frozen_stages=[stem]", "--dry_run"]) == 0
    assert "12 of 12 trainings to do" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.usefixtures("stand_in", "no_networks")
def test_whole_videos_are_tested_after_each_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ucf5").mkdir()
    words = ["table", "7", "--dataset", "ucf5", "--splits", "1", "2", "--blocks", "snl"]
    words += ["--seeds", "2", "--root", str(tmp_path / "ucf5"), "-o", str(tmp_path / "out")]
    words += ["--configs", str(ROOT / "configs")]
    assert main(words) == 0  # trained, and not tested
    assert "Whole videos" not in capsys.readouterr().out
    assert main([*words, "--clips", "3"]) == 0
    shown = capsys.readouterr()
    assert "table 7: 0 of 8 trainings done" in shown.err
    logs = "".join(file.read_text() for file in (tmp_path / "out" / "logs").iterdir())
    assert logs.count("$ video-snl train") == 8  # the trainings were kept
    assert logs.count("$ video-snl evaluate") == 8
    assert logs.count("/evaluation-3x1 --strips 0 --clips 3 --crops 1") == 8
    assert logs.count("/checkpoints/last.ckpt --output ") == 8
    assert "Whole videos (3 clips x 1 crop, last epoch)" in shown.out
    # 14 and 15 of 20 videos; the first of SNL's 17 and 18. Only the first group, four videos, and
    # two of the second are wrong, so that resampled groups have from all to none right.
    assert "| no block | 2 | 72.50 ± 3.54 | 72.50 ± 3.54 | 72.50 [" in shown.out
    assert "| SNL | 2 | 87.50 ± 3.54 | 87.50 ± 3.54 | 87.50 [" in shown.out
    assert "| +15.00 [+" in shown.out
    lines = list(csv.DictReader((tmp_path / "out" / "table7.csv").open(encoding="utf-8")))
    assert [line["video"] for line in lines[:2]] == ["70.0000", "75.0000"]

    # Other views have folders of their own, and the first ones are kept.
    assert main([*words, "--clips", "2"]) == 0
    assert "table 7: 0 of 8 trainings done" in capsys.readouterr().err
    assert main([*words, "--clips", "3"]) == 0
    assert "| SNL | 2 | 87.50 ± 3.54 | 87.50 ± 3.54 | 87.50 [" in capsys.readouterr().out
    logs = "".join(file.read_text() for file in (tmp_path / "out" / "logs").iterdir())
    assert logs.count("$ video-snl evaluate") == 16

    # What is not the test of a result is not taken for it.
    [run] = (tmp_path / "out" / "runs").glob("*-snl-split1-s0-*")
    file = run / "evaluation-3x1" / "predictions.csv"
    file.write_text(file.read_text().replace(",Run", ",Bow"))
    assert main([*words, "--clips", "3"]) == 0
    shown = capsys.readouterr()
    assert "evaluation-3x1 has 100.00% of its videos right, and the result of this run 85.00%" in (
        shown.out
    )
    assert "| SNL | 2 | 87.50 ± 3.54 | 87.50 ± 3.54 | - | - |" in shown.out

    shutil.rmtree(tmp_path / "out" / "runs")
    assert main([*words, "--clips", "3"]) == 0
    shown = capsys.readouterr()
    assert "table 7: 8 of 8 trainings done" in shown.err
    assert "| SNL | 2 | 87.50 ± 3.54 | 87.50 ± 3.54 | - | - |" in shown.out
    assert "There are no intervals of whole videos: " in shown.out
    assert ", the run of a result, is gone or was moved." in shown.out
    assert main(["table", "2", "--clips", "3", "--dry_run"]) == 2
    assert "--clips 3: table 2 is about images." in capsys.readouterr().err
