"""``video-snl table``: from its options to runs and a report."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import Namespace

from video_snl.config.files import CONFIGS
from video_snl.errors import UserError
from video_snl.tables.cells import BLOCKS, TABLES, VIDEO_LISTS, cells_of, read_figures
from video_snl.tables.jobs import Job, JobResult, job_of
from video_snl.tables.settings import Choices, Planned, find_configs, plans
from video_snl.tables.store import Contents, Result, Store
from video_snl.utils.counts import counts, views_named
from video_snl.utils.files import check_folder, write_json, write_text
from video_snl.utils.processes import ending_in_order

if TYPE_CHECKING:
    from video_snl.tables.networks import Size

__all__ = ["run_table"]

_CLUSTER_JOBS = 16
_OPTION = re.compile(r"(data|model|optimizer|trainer)\.\w+")


@dataclass(frozen=True)
class _Table:
    """A table as the options ask for it."""

    number: int
    planned: list[Planned]
    seeds: range
    figures: dict[str, float]
    output: Path
    store: Store
    remarks: list[str]

    @property
    def metric(self) -> str:
        return TABLES[self.number].metric

    @property
    def jobs(self) -> list[Job]:
        """Seed by seed, so that whole tables are there early."""
        return [job_of(cell, seed, self.output) for seed in self.seeds for cell in self.planned]


def run_table(arguments: Namespace) -> int:
    """Run what is missing and report; returns the exit code."""
    _check(arguments)
    asked = _asked(arguments)
    _check_experiments(asked.planned)
    if arguments.dry_run:
        _print_plan(asked)
        return 0
    _check_root(arguments, asked.planned)
    check_folder("-o", str(asked.output))
    sizes = _sizes(asked)  # what it refuses is not found only after days of training
    missing = _missing(asked, asked.store.read())
    _announce(asked, missing)
    missed: list[JobResult] = []
    if missing:
        with _ending_in_order(asked):
            missed = _run(arguments, asked, missing)
    _report(asked, sizes)
    for ended in missed:
        print(f"{ended.job.label}: {ended.status}: {ended.message}", file=sys.stderr)
    return 1 if missed else 0


def _check(arguments: Namespace) -> None:
    for name in ("seeds", "cpus", "minutes"):
        if arguments[name] < 1:
            raise UserError(f"--{name} {arguments[name]}: at least 1 is needed.")
    if arguments.jobs is not None and arguments.jobs < 1:
        raise UserError(f"--jobs {arguments.jobs}: at least 1 is needed.")
    if arguments.gpus < 0:
        raise UserError(f"--gpus {arguments.gpus}: none is 0.")


def _asked(arguments: Namespace) -> _Table:
    number = arguments.number
    cells = cells_of(
        number,
        dataset=arguments.dataset,
        backbones=arguments.backbones,
        blocks=arguments.blocks,
        splits=arguments.splits,
    )
    choices = Choices(
        configs=find_configs(arguments.configs),
        root=arguments.root,
        epochs=arguments.epochs,
        weights=arguments.weights,
        clips=arguments.clips,
        options=_options(arguments.set),
    )
    figures = {}
    if arguments.paper is not None:
        rows = list(dict.fromkeys(cell.over_splits.row for cell in cells))
        figures = read_figures(Path(arguments.paper), rows)
    output = Path(arguments.output).expanduser()
    store = Path(arguments.store).expanduser() if arguments.store else output / "results.jsonl"
    planned = plans(cells, choices)
    remarks = _remarks(number, planned, choices)
    return _Table(number, planned, range(arguments.seeds), figures, output, Store(store), remarks)


def _options(words: Sequence[str]) -> dict[str, str]:
    options = {}
    for word in words:
        option, equals, value = word.partition("=")
        if not equals or not _OPTION.fullmatch(option):
            raise UserError(
                f"--set {word}: expected SECTION.KEY=VALUE with one of the sections data, model, "
                "optimizer and trainer."
            )
        options[option] = value
    return options


def _remarks(number: int, planned: Sequence[Planned], choices: Choices) -> list[str]:
    """Return lines on how these runs differ from the paper's."""
    table = TABLES[number]
    other = sorted({p.cell.dataset for p in planned} - set(table.datasets))
    other += sorted({p.cell.backbone for p in planned} - set(table.backbones))
    blocks = dict.fromkeys(p.cell.block for p in planned)
    other += [BLOCKS[block].label for block in blocks if block not in table.blocks]
    if table.videos:
        other += [
            f"split {split}"
            for split in dict.fromkeys(p.cell.split for p in planned)
            if split != VIDEO_LISTS[table.datasets[0]].split
        ]
        if choices.weights is None and "i3d_r50" in {p.cell.backbone for p in planned}:
            other.append("new weights")
    if choices.weights is not None and not table.videos:
        other.append(f"weights {choices.weights}")
    if choices.epochs is not None:
        other.append(f"{choices.epochs} epoch" + "s" * (choices.epochs != 1))
    other += [f"{option} = {value}" for option, value in choices.options.items()]
    remarks = [f"Not the paper's settings: {', '.join(other)}."] if other else []
    if not _is_own(choices.configs):
        remarks.append(f"Its configurations are those of {choices.configs}.")
    return remarks


def _is_own(configs: Path) -> bool:
    """Tell whether it is the folder that comes with this package."""
    return configs.resolve() == CONFIGS.resolve()


def _check_experiments(planned: Sequence[Planned]) -> None:
    """Check the options of all cells before the first training.

    Raises:
        UserError: naming the first cell with options that its training would refuse.
    """
    from video_snl.tables.networks import check_cell

    for cell in planned:
        try:
            check_cell(cell.experiment)
        except UserError as error:
            raise UserError(f"{cell.cell.row}: {error}") from error


def _check_root(arguments: Namespace, planned: Sequence[Planned]) -> None:
    """Check the folder of the data before the first training."""
    needing = sorted({p.cell.dataset for p in planned} - {"digits", "sample"})
    root = {p.experiment.data.root for p in planned}
    if needing and None in root:
        raise UserError(f"--root is needed: the folder of {' and '.join(needing)}.")
    if arguments.root is not None and not Path(arguments.root).expanduser().is_dir():
        raise UserError(f"--root {arguments.root}: no such folder.")


def _missing(asked: _Table, contents: Contents) -> list[Job]:
    done = {p.settings: contents.of(p.settings, asked.metric) for p in asked.planned}
    return [job for job in asked.jobs if not _is_done(job, done[job.settings].get(job.seed))]


def _is_done(job: Job, result: Result | None) -> bool:
    return result is not None and (job.views is None or result.views == views_named(*job.views))


def _announce(asked: _Table, missing: Sequence[Job]) -> None:
    contents = asked.store.read()
    if contents.torn:
        lines = ", ".join(map(str, contents.torn))
        _log(f"{asked.store.path}: no results in line {lines} (cut off, or foreign); left out")
    for planned in asked.planned:
        stale = [r for r in contents.stale(planned.cell.row, planned.settings)]
        if stale:
            seeds = ", ".join(sorted({str(result.seed) for result in stale}))
            _log(f"{planned.cell.row}: results of other settings do not count (seeds {seeds})")
    total = len(asked.jobs)
    _log(f"table {asked.number}: {total - len(missing)} of {counts(total, 'training')} done")


def _run(arguments: Namespace, asked: _Table, missing: Sequence[Job]) -> list[JobResult]:
    from video_snl.tables.run import run_jobs

    runner = _cluster(arguments, asked) if arguments.cluster else _local(arguments)
    return run_jobs(missing, runner, asked.store, asked.metric)


def _cluster(arguments: Namespace, asked: _Table) -> Any:
    from video_snl.tables.run import Cluster, cluster_runner

    cluster = Cluster(
        kind=arguments.cluster,
        partition=arguments.partition,
        gpus=arguments.gpus,
        cpus=arguments.cpus,
        minutes=arguments.minutes,
    )
    folder = asked.output.resolve() / "cluster"
    return cluster_runner(cluster, folder, arguments.jobs or _CLUSTER_JOBS)


def _local(arguments: Namespace) -> Any:
    from video_snl.tables.run import local_runner

    devices = _devices()
    return local_runner(arguments.jobs or max(1, len(devices)), devices)


def _devices() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    number = torch.cuda.device_count()
    return named.split(",")[:number] if named else [str(index) for index in range(number)]


@contextmanager
def _ending_in_order(asked: _Table) -> Iterator[None]:
    """End the trainings on SIGTERM and SIGHUP as on Ctrl-C, and say what is kept."""
    with ending_in_order():
        try:
            yield
        except (KeyboardInterrupt, SystemExit):
            _log(f"what is done is in {asked.store.path}; the same command goes on")
            raise


def _sizes(asked: _Table) -> list[Size]:
    from video_snl.tables.networks import sizes_of

    return sizes_of(asked.planned)


def _report(asked: _Table, sizes: Sequence[Size]) -> None:
    from video_snl.tables.plot import draw_table
    from video_snl.tables.report import (
        as_csv,
        as_json,
        markdown,
    )
    from video_snl.tables.rows import precisions, rows_of

    contents = asked.store.read()
    rows = rows_of(asked.planned, sizes, contents, asked.seeds, asked.figures)
    remarks = [*asked.remarks, *precisions(asked.planned, contents, asked.seeds)]
    text = markdown(asked.number, rows, remarks)
    place = asked.output / f"table{asked.number}"
    write_text(place.with_suffix(".md"), text)
    write_json(place.with_suffix(".json"), as_json(rows))
    write_text(place.with_suffix(".csv"), as_csv(rows))
    draw_table(asked.number, rows, place.with_suffix(".png"))
    print(text, flush=True)
    print(f"report: {place}.md, .json, .csv, .png; results: {asked.store.path}", flush=True)


def _print_plan(asked: _Table) -> None:
    from video_snl.tables.report import conditions, paper_section, size_table
    from video_snl.tables.rows import rows_of

    rows = rows_of(asked.planned, _sizes(asked), Contents([], []), asked.seeds, asked.figures)
    missing = _missing(asked, asked.store.read())
    total, title = len(asked.jobs), TABLES[asked.number].title
    splits = f"{counts(len(rows[0].splits), 'split')}, " if rows[0].splits else ""
    print(
        f"Table {asked.number}: {title}; {counts(len(rows), 'cell')}, {splits}"
        f"{counts(len(asked.seeds), 'seed')}\n"
    )
    for remark in asked.remarks:
        print(f"{remark}\n")
    print(size_table(asked.number, rows))
    for line in conditions(rows):
        print(f"\n{line}")
    if any(cell.views for cell in asked.planned):
        views = dict.fromkeys(views_named(*cell.views) for cell in asked.planned if cell.views)
        print(f"\nWhole videos are tested after each training: {', '.join(views)}.")
    print(f"\n{paper_section(asked.number)}")
    print(f"\n{len(missing)} of {counts(total, 'training')} to do:")
    for job in missing:
        print(f"video-snl {shlex.join(job.words)}")


def _log(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
