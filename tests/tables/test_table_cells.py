"""Which cells the tables have, and the experiments they are."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.tables.stand_in import experiment
from video_snl.config.backbones import VIDEO_BACKBONES
from video_snl.config.image import ImageExperiment
from video_snl.config.video import Experiment
from video_snl.errors import UserError
from video_snl.models.image import build_image_model
from video_snl.tables.cells import BLOCKS, PRINTED, TABLES, cells_of, read_figures
from video_snl.tables.paper import FIGURES
from video_snl.tables.settings import (
    BASES,
    Choices,
    Planned,
    find_configs,
    plan,
    plans,
    settings_of,
)

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@pytest.mark.parametrize(
    ("number", "count", "last"),
    [
        (2, 1 + 6 * 3, "cifar100/preresnet56_snl/snl/Cs=C/4"),
        (3, 1 + 6 * 3, "cifar100/preresnet56_snl/snl/stage3"),
        (4, 2 * 3 * (1 + 6), "cifar100/resnet50_cifar/snl"),
        (5, 1 + 6 * 2, "cifar100/preresnet56_snl/snl/x3"),
        (6, 1 + 9, "imagenet/resnet50/snl"),
        (7, 1 + 5, "ucf101/i3d_r50/snl/splitpaper"),
        (8, 1 + 10, "cityscapes/fcn_r50_d8/gsnl"),
    ],
)
def test_cells_of_every_table(number: int, count: int, last: str) -> None:
    cells = cells_of(number)
    rows = [cell.row for cell in cells]
    assert len(rows) == len(set(rows)) == count
    assert len({cell.slug for cell in cells}) == count
    assert rows[-1] == last
    for cell in cells:
        assert (cell.compared_with is None) == (cell.block == "none")
        assert cell.compared_with is None or cell.compared_with in rows
        assert "/" not in cell.slug and " " not in cell.slug


def test_places_and_reductions() -> None:
    models = {cell.row: cell.model for number in (2, 3, 4, 5) for cell in cells_of(number)}
    place = "cifar100/preresnet56_snl/snl/"
    assert models[place + "Cs=C"]["reduction"] == 1
    assert models[place + "stage3"]["stages"] == [3]
    assert models[place + "x3"]["stages"] == [1, 2, 3]
    assert models["cifar10/resnet50_cifar/nl"]["stages"] == [3]
    assert models["cifar10/preresnet20_snl/nl"]["stages"] == [1]


def test_other_data_networks_and_blocks() -> None:
    cells = cells_of(5, dataset="digits", blocks=["none", "snl", "snl"])
    assert [cell.row for cell in cells] == [
        "digits/preresnet20/none",
        "digits/preresnet20/snl/x1",
        "digits/preresnet20/snl/x3",
    ]
    both = cells_of(4, dataset="cifar10", backbones=["preresnet20", "preresnet56"], blocks=["nl"])
    assert [cell.backbone for cell in both] == ["preresnet20"] * 2 + ["preresnet56"] * 2


@pytest.mark.parametrize(
    ("number", "options", "message"),
    [
        (9, {}, "no table 9 of such experiments; choose one of 2, 3, 4, 5, 6, 7, 8"),
        (7, {"dataset": "digits"}, "table 7 is about videos; choose one of ucf101, ucf5, sample"),
        (7, {"backbones": ["resnet50"]}, "no such network; choose of i3d_r50"),
        (7, {"splits": ["1", "4"]}, "--splits 4: choose of 1, 2, 3, paper"),
        (5, {"splits": ["1"]}, "--splits 1: the data of table 5 has one"),
        (5, {"dataset": "ucf5"}, "table 7 is about videos"),
        (5, {"blocks": ["snl", "sln"]}, "--blocks sln: no such block; choose of none, nl"),
        (5, {"dataset": "cifar"}, "--dataset cifar: choose one of digits"),
        (5, {"dataset": "cityscapes"}, "table 5 is about images with a class each"),
        (8, {"dataset": "digits"}, "table 8 is about cityscapes"),
        (2, {"backbones": ["resnet"]}, "--backbones resnet: no such network"),
        (2, {"backbones": ["fcn_r50_d8"]}, "--backbones fcn_r50_d8: not for table 2"),
    ],
)
def test_what_does_not_exist(number: int, options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        cells_of(number, **options)  # type: ignore[arg-type]


def test_every_data_set_has_its_configuration() -> None:
    for dataset, file in BASES.items():
        assert (CONFIGS / file).is_file(), f"{dataset}: no {file}"
    assert find_configs(str(CONFIGS)) == CONFIGS
    with pytest.raises(UserError, match="name the folder 'configs' of the repository"):
        find_configs("nowhere")


def test_equal_networks_of_two_tables_are_one_experiment() -> None:
    choices = Choices(CONFIGS)
    planned = {
        number: {
            planned.cell.row.split("/", 2)[2]: planned
            for planned in plans(cells_of(number, dataset="digits", blocks=blocks), choices)
        }
        for number, blocks in ((2, None), (3, ["snl"]), (5, ["snl"]))
    }
    same = {
        planned[2]["snl/Cs=C/2"].settings,
        planned[3]["snl/stage1"].settings,
        planned[5]["snl/x1"].settings,
    }
    assert len(same) == 1
    assert len({planned[number]["none"].settings for number in planned}) == 1
    assert len({plan.settings for plan in planned[2].values()}) == len(planned[2])


_QUICK = ("digits", "cityscapes")  # of the two kinds of task


@pytest.mark.parametrize(
    "dataset",
    [pytest.param(name, marks=[] if name in _QUICK else pytest.mark.slow) for name in BASES],
)
def test_what_is_planned_is_what_a_training_records(dataset: str, tmp_path: Path) -> None:
    number = {"cityscapes": 8, "ucf101": 7, "ucf5": 7, "sample": 7}.get(dataset, 2)
    cell = cells_of(number, dataset=dataset, blocks=["snl"])[-1]
    options = {"optimizer.warmup_epochs": "10", "optimizer.weight_decay": "1e-2"}
    drops = {"optimizer.step_epochs": "7"} if number == 7 else {"optimizer.milestones": "[15, 25]"}
    for choices in (
        Choices(CONFIGS, root=str(tmp_path)),
        Choices(CONFIGS, epochs=30),
        Choices(CONFIGS, options=options | drops),
        Choices(CONFIGS, weights="kinetics", options={"optimizer.frozen_stages": "[stem]"}),
    ):
        planned = plan(cell, choices)
        recorded = experiment(planned.words(3, tmp_path)[1:])
        values = json.loads(json.dumps(recorded))
        assert settings_of(values, planned.source) == planned.settings
        assert recorded["trainer"]["seed"] == 3
        assert recorded["model"]["backbone"] == cell.backbone


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"optimizer: {epochs: 0}", "optimizer.epochs=0 must be at least 1"),
        (b"data: 3", "data"),
        (b"optimizer: {epochs: many}", 'optimizer.epochs": Expected'),
        (b"\xff\xfe\x00", "UTF-8"),
        (b"[1, 2", "config"),
    ],
)
def test_configurations_that_are_none(content: bytes, message: str, tmp_path: Path) -> None:
    file = tmp_path / BASES["digits"]
    file.parent.mkdir()
    file.write_bytes(content)
    (cell, *_) = cells_of(6, dataset="digits")
    with pytest.raises(UserError, match=re.escape(str(file))) as refused:
        plan(cell, Choices(tmp_path, epochs=3))
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("option", "word", "message"),
    [
        ("model.block", "nl", "the table sets model.block itself; it is what its cells differ in"),
        ("data.dataset", "cifar10", "use --dataset"),
        ("optimizer.epochs", "3", "use --epochs"),
        ("trainer.seed", "3", "use --seeds"),
        ("optimizer.milestones", "[1,2", 'optimizer.milestones": Expected'),
        ("optimizer.batch_size", "many", 'optimizer.batch_size": Expected'),
        ("optimizer.speed", "3", "optimizer has accumulate, "),
        ("data.heigh", "32", "--set data.heigh=32: data has dataset, "),
        ("model.reductio", "4", "model has backbone, "),
    ],
)
def test_options_that_no_cell_takes(option: str, word: str, message: str) -> None:
    cell = cells_of(2, dataset="digits")[-1]
    with pytest.raises(UserError, match=re.escape(message)):
        plan(cell, Choices(CONFIGS, options={option: word}))


def test_gates_have_no_transferred_channels() -> None:
    gates = [name for name, block in BLOCKS.items() if block.gate]
    assert gates == ["se", "ge", "simpnl", "cgd"]
    cells = cells_of(5, dataset="digits", blocks=gates)
    assert {cell.block for cell in cells} == {"none", *gates}
    assert all(cell.model["reduction"] is None for cell in cells)
    with torch.device("meta"):
        for cell in cells:
            build_image_model(plan(cell, Choices(CONFIGS)).experiment.model, 10)
    with pytest.raises(UserError, match="--blocks se cgd: these transfer no channels"):
        cells_of(2, blocks=["snl", "se", "cgd"])


def test_what_matters_for_a_result() -> None:
    base = ImageExperiment().to_dict()

    def changed(section: str, **values: object) -> str:
        return settings_of({**base, section: {**base[section], **values}})

    same = settings_of(base)
    assert changed("data", root="elsewhere", num_workers=7) == same
    assert changed("trainer", seed=3, output="elsewhere", devices=2) == same
    assert changed("trainer", precision="bf16-mixed") != same
    assert changed("optimizer", epochs=13) != same
    assert changed("optimizer", test_batch_size=7) == same
    assert changed("model", reduction=4) != same
    separate = {"sync_batchnorm": False}
    assert changed("trainer", **separate) == same
    assert changed("trainer", **separate, devices=2) != same
    assert changed("trainer", **separate, devices=2) != changed("trainer", **separate, nodes=2)
    assert changed("data", dataset="folder") != changed("data", dataset="folder", root="a")


def test_fewer_epochs_keep_the_shape_of_the_schedule(tmp_path: Path) -> None:
    file = tmp_path / BASES["digits"]
    file.parent.mkdir()
    file.write_text(
        "optimizer: {epochs: 300, milestones: [150, 250], warmup_epochs: 10, "
        "schedule: milestones}\n"
    )
    (cell, *_) = cells_of(6, dataset="digits")
    optimizer = plan(cell, Choices(tmp_path, epochs=30)).experiment.optimizer
    assert (optimizer.epochs, optimizer.milestones, optimizer.warmup_epochs) == (30, [15, 25], 1)
    with pytest.raises(UserError, match="at least one"):
        plan(cell, Choices(tmp_path, epochs=0))
    with pytest.raises(UserError, match=r"--set model.layers=3: model has backbone, "):
        plan(cell, Choices(tmp_path, options={"model.layers": "3"}))


def test_the_papers_figures_are_of_rows_that_there_are() -> None:
    for number, figures in FIGURES.items():
        cells = {((c.dataset, c.backbone), c.entry) for c in cells_of(number)}
        printed = {(group, row) for group, rows in figures.groups.items() for row in rows}
        assert printed <= cells
        assert TABLES[number].metric in figures.measures
    for number, rows in PRINTED.items():
        assert set(rows) <= set(TABLES[number].blocks) <= set(BLOCKS)


def test_splits_are_experiments_of_their_own_and_one_row() -> None:
    cells = cells_of(7, dataset="ucf5", splits=["1", "2", "1"], blocks=["snl"])
    assert [cell.row.removeprefix("ucf5/i3d_small/") for cell in cells] == [
        "none/split1",
        "snl/split1",
        "none/split2",
        "snl/split2",
    ]
    assert cells[3].compared_with == cells[2].row
    assert cells[1].over_splits == cells[3].over_splits
    assert cells[3].over_splits.compared_with == cells[2].over_splits.row
    planned = plans(cells, Choices(CONFIGS))
    assert [plan.experiment.data.split for plan in planned] == [1, 1, 2, 2]
    assert len({plan.settings for plan in planned}) == 4


def test_ucf5_is_not_ucf101() -> None:
    """Both are read as ucf101, from folders that do not count for a result."""
    same = ("i3d_small",)
    (five,) = cells_of(7, dataset="ucf5", backbones=same, blocks=[])
    (all_of,) = cells_of(7, backbones=same, splits=["1"], blocks=[])
    values = plan(five, Choices(CONFIGS)).experiment.to_dict()
    assert values["data"]["dataset"] == "ucf101"
    assert settings_of(values, "ucf5") != settings_of(values)
    assert plan(five, Choices(CONFIGS)).source == "ucf5"
    assert plan(all_of, Choices(CONFIGS)).source == ""


def test_weights_and_frozen_stages_are_settings_of_their_own(tmp_path: Path) -> None:
    cell = cells_of(7, dataset="ucf5", blocks=[])[0]
    file = tmp_path / "weights.pth"
    file.touch()
    frozen = {"optimizer.frozen_stages": "[stem]"}
    planned = [
        plan(cell, Choices(CONFIGS)),
        plan(cell, Choices(CONFIGS, weights="kinetics")),
        plan(cell, Choices(CONFIGS, weights=str(file))),
        plan(cell, Choices(CONFIGS, weights=str(file), options=frozen)),
    ]
    assert len({p.settings for p in planned}) == 4
    assert planned[2].experiment.model.weights == str(file)
    assert plan(cell, Choices(CONFIGS, weights="null")).settings == planned[0].settings
    # A file is told by what is in it, wherever it lies.
    copy = tmp_path / "copy.pth"
    copy.touch()
    assert plan(cell, Choices(CONFIGS, weights=str(copy))).settings == planned[2].settings
    copy.write_bytes(b"others")
    assert plan(cell, Choices(CONFIGS, weights=str(copy))).settings != planned[2].settings
    with pytest.raises(UserError, match="--set gives model.weights, too"):
        plan(cell, Choices(CONFIGS, weights="kinetics", options={"model.weights": "null"}))


def test_decoding_of_videos_does_not_matter_for_a_result() -> None:
    base = Experiment().to_dict()

    def changed(**values: object) -> str:
        return settings_of({**base, "data": {**base["data"], **values}})

    mute = {"reader": "pyav", "deadline": 9.0, "num_workers": 0, "decode_device": "cuda"}
    assert changed(**mute) == settings_of(base)
    assert changed(split=2) != settings_of(base) != changed(clip_frames=8)


def test_a_network_published_with_its_input_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    input_options = {"clip_frames": 6, "frame_stride": 5, "short_side": 90, "crop": 80}
    recipe = SimpleNamespace(data_options=lambda: input_options, clips=2, crops=1)
    entry = SimpleNamespace(**vars(VIDEO_BACKBONES["slow_r50"]) | {"recipe": recipe})
    monkeypatch.setitem(VIDEO_BACKBONES, "slow_r50", entry)  # type: ignore[arg-type]
    (cell,) = cells_of(7, dataset="ucf5", backbones=["slow_r50"], blocks=[])
    experiment = plan(cell, Choices(CONFIGS)).experiment
    data = experiment.data
    assert (data.clip_frames, data.frame_stride, data.short_side, data.crop) == (6, 5, 90, 80)
    assert experiment.model.weights == "kinetics"
    assert plan(cell, Choices(CONFIGS, weights="null")).experiment.model.weights is None


def test_a_backbone_with_a_configuration_of_its_own_starts_from_it() -> None:
    def planned(dataset: str, backbone: str, clips: int | None = None) -> Planned:
        [cell] = cells_of(7, dataset=dataset, backbones=[backbone], blocks=[], splits=["1"])
        return plan(cell, Choices(CONFIGS, clips=clips))

    on_ucf5, on_ucf101 = planned("ucf5", "x3d_xs"), planned("ucf101", "x3d_xs")
    assert on_ucf5.base == CONFIGS / "ucf5" / "x3d_xs_snl.yaml"
    assert on_ucf101.base == CONFIGS / "finetune" / "x3d_xs_snl.yaml"
    for found in (on_ucf5, on_ucf101):
        assert isinstance(found.experiment, Experiment)
        data = found.experiment.data
        assert (data.dataset, data.stride_seconds, data.crop) == ("ucf101", 0.4, 160)
        assert found.experiment.model.weights == "x3d_xs"
        assert found.views == (3, 1)  # the recipe's
    assert planned("ucf5", "i3d_small").base == CONFIGS / "ucf5" / "i3d_small_snl.yaml"
    assert planned("ucf5", "i3d_small").views is None
    assert planned("ucf5", "i3d_small", clips=4).views == (4, 1)
    assert planned("ucf5", "x3d_xs", clips=0).views is None
    with pytest.raises(UserError, match="--clips -1"):
        planned("ucf5", "x3d_xs", clips=-1)


def test_figures_of_a_reader(tmp_path: Path) -> None:
    file = tmp_path / "paper.yaml"
    file.write_text("a/none: 75\na/snl: 76.25\n")
    assert read_figures(file, ["a/none", "a/snl"]) == {"a/none": 75.0, "a/snl": 76.25}
    with pytest.raises(UserError, match="no row a/snl in this table"):
        read_figures(file, ["a/none"])
    for text in ("a/none: 760", "a/none: yes", "a/none: high"):
        file.write_text(text)
        with pytest.raises(UserError, match="a/none: .* is not a number of per cent"):
            read_figures(file, ["a/none"])
    with pytest.raises(UserError, match="cannot be read"):
        read_figures(tmp_path / "nowhere.yaml", ["a/none"])
