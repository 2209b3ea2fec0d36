"""Tables as text and as a figure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from video_snl.tables.cells import cells_of
from video_snl.tables.networks import Size, sizes_of
from video_snl.tables.plot import draw_table
from video_snl.tables.report import as_json, markdown, size_table
from video_snl.tables.rows import Row, rows_of
from video_snl.tables.settings import Choices, plan
from video_snl.tables.store import Contents, Result

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
SIZES = [
    Size(958_708, 134_982_656, 0, 0),
    Size(967_028, 143_502_336, 8_320, 8_519_680),
    Size(969_076, 145_638_400, 10_368, 10_616_832),
]
TABLE = """\
# Table 6: ImageNet

Not the paper's settings: digits.

## digits, preresnet20

| block | seeds | top-1, last epoch | best epoch | against no block | p | paper's | ours - paper's \
| parameters | added | paper's | multiply-adds | added | paper's |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
| no block | 2 | 51.00 ± 1.41 | 54.00 ± 1.41 | - | - | 50.00 | +4.00 \
| 958,708 | - | - | 0.1350 G | - | - |
| NL | 1 | 53.00 | 54.00 | +3.00 (one seed) | - | - | - \
| 967,028 | +8,320 | - | 0.1435 G | +0.0085 G | - |
| SNL | 2 | 55.00 ± 4.24 | 57.00 ± 4.24 | +4.00 [-21.41, +29.41] | 0.295 | 60.00 | -3.00 \
| 969,076 | +10,368 | - | 0.1456 G | +0.0106 G | - |

Ours: images of 32 x 32, """


def rows() -> list[Row]:
    cells = cells_of(6, dataset="digits", blocks=["nl", "snl"])
    planned = [plan(cell, Choices(CONFIGS)) for cell in cells]

    def result(index: int, seed: int, last: float, best: float) -> Result:
        metrics = {"last": {"val/top1": last}, "best": {"val/top1": best}}
        settings = planned[index].settings
        return Result(6, cells[index].row, seed, settings, metrics, "run", 1.0)

    results = [
        result(0, 0, 0.50, 0.53),
        result(0, 1, 0.52, 0.55),
        result(1, 0, 0.53, 0.54),
        result(2, 0, 0.52, 0.54),
        result(2, 1, 0.58, 0.60),
        result(2, 7, 0.99, 0.99),  # a seed that is not asked for
        Result(6, cells[1].row, 1, "other settings", {}, "run", 1.0),
    ]
    figures = {cells[0].row: 50.0, cells[2].row: 60.0}
    return rows_of(planned, SIZES, Contents(results, []), range(2), figures)


def test_markdown() -> None:
    text = markdown(6, rows(), ["Not the paper's settings: digits."])
    assert text.startswith(TABLE)
    assert "Top-1 accuracy of the test list in per cent" in text
    legend = next(part for part in text.split("\n\n") if part.startswith("Top-1 accuracy"))
    assert max(map(len, legend.splitlines())) <= 100
    assert "## Table 6 as the paper prints it" in text and "| NL | 76.70 | +0.41 G |" in text


def test_scenes_have_three_measures() -> None:
    cells = cells_of(8, blocks=["snl"])
    planned = [plan(cell, Choices(CONFIGS)) for cell in cells]
    last = {"val/mIoU": 0.75, "val/mAcc": 0.8333, "val/aAcc": 0.96}
    metrics = {"last": last, "best": {"val/mIoU": 0.76}}
    results = [Result(8, cells[1].row, 0, planned[1].settings, metrics, "run", 1.0)]
    text = markdown(8, rows_of(planned, SIZES[::2], Contents(results, []), range(1), {}), [])
    assert "| block | seeds | mIoU, last epoch | best epoch | mAcc | aAcc | against" in text
    assert "| no block | 0 | - | - | - | - | - | - | 69.19 | - | 76.60 |" in text
    assert "| SNL | 1 | 75.00 | 76.00 | 83.33 | 96.00 | - | - | 76.87 | -0.87 | 84.75 |" in text
    assert "| +5.37 G |" in text and "Mean intersection over union" in text


def test_plain_values_are_all_there_is() -> None:
    plain = json.loads(json.dumps(as_json(rows())))
    assert [row["row"].split("/")[-1] for row in plain] == ["none", "nl", "snl"]
    assert plain[2]["last"] == {"0": pytest.approx(52), "1": pytest.approx(58)}
    assert plain[2]["last_spread"]["mean"] == pytest.approx(55)
    assert plain[2]["difference"]["p"] == pytest.approx(0.2952, abs=1e-4)
    assert plain[2]["from_paper"] == pytest.approx(-3)
    assert plain[1]["paper"] is None and plain[1]["from_paper"] is None


def test_picture(tmp_path: Path) -> None:
    draw_table(6, rows(), tmp_path / "table.png")
    with Image.open(tmp_path / "table.png") as image:
        assert image.size[0] > 800
        assert len(image.convert("RGB").getcolors(1 << 20) or []) > 20
    nothing = [
        Row(row.cell, row.size, {}, {}, row.further, None, row.printed, None) for row in rows()
    ]
    draw_table(6, nothing, tmp_path / "empty.png")
    assert (tmp_path / "empty.png").stat().st_size > 0


def test_printed_sizes_stand_beside_the_papers_own_cells_only(tmp_path: Path) -> None:
    for dataset in ("imagenet", "digits"):
        cells = cells_of(6, dataset=dataset, backbones=["resnet50"], blocks=["nl", "snl"])
        values = [plan(cell, Choices(_configs(tmp_path))) for cell in cells]
        text = size_table(6, rows_of(values, SIZES, Contents([], []), range(1), {}))
        assert ("| +2.62 M |" in text) == (dataset == "imagenet")


def test_sizes_of_scenes_are_those_of_whole_scenes(tmp_path: Path) -> None:
    """Traced at an eighth of their sides: 395.80 G, and 5.3771 G of SNL (docs/paper-tables.md)."""
    cells = cells_of(8, blocks=["snl"])
    bare, snl = sizes_of([plan(cell, Choices(_configs(tmp_path))) for cell in cells])
    assert bare.parameters == 47_133_043
    assert bare.multiply_adds / 1e9 == pytest.approx(395.804, abs=5e-4)
    assert (bare.added_parameters, snl.added_parameters) == (0, 656_384)
    assert snl.added_multiply_adds / 1e9 == pytest.approx(5.3771, abs=5e-5)
    assert snl.multiply_adds - bare.multiply_adds == snl.added_multiply_adds


def _configs(folder: Path) -> Path:
    """Configurations that hold no more than what sizes depend on."""
    for name, data in (
        ("imagenet/resnet50_snl", "{dataset: imagenet, height: 224, width: 224}"),
        ("cityscapes/fcn_r50d8_snl", "{dataset: cityscapes, height: 512, width: 1024}"),
        ("digits/preresnet20_snl", "{dataset: digits}"),
    ):
        file = folder / f"{name}.yaml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"data: {data}\n")
    return folder
