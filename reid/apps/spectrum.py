"""``reid spectrum``: the blocks of a network on their graphs' spectra."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reid.apps.explain import block_name, blocks_of, tracklet_subject
from reid.data.datasets.catalog import load_dataset
from reid.data.tracklet import Tracklet
from reid.data.tracklet_folders import Layout, find_tracklets
from reid.runs import find_checkpoint
from reid.trained import TrainedReid, load_trained
from video_snl.analysis.model_input import Subject
from video_snl.analysis.spectrum.run import SpectrumOptions, evenly_spaced, measure_and_report
from video_snl.engine.fitting import tell
from video_snl.engine.trainer import device_of
from video_snl.errors import UserError

__all__ = ["spectrum"]


def spectrum(
    paths: Sequence[str],
    options: SpectrumOptions,
    *,
    layout: Layout = "auto",
    checkpoint: str | None,
    accelerator: str,
) -> int:
    """Measure on tracklets; without paths, on some of the run's queries.

    Returns:
        2 when a tracklet could not be read, else 0.
    """
    tracklets = find_tracklets(paths, layout, say=tell)
    device = device_of(accelerator)
    trained = load_trained(find_checkpoint(checkpoint))
    tracklets = tracklets or _listed(trained, options.inputs)

    def subject(source: str) -> Subject:
        return tracklet_subject(source, tracklets[source], trained, device)

    blocks = block_name(trained), blocks_of(trained)
    path = Path(trained.path)
    return measure_and_report("reid", path, blocks, list(tracklets), subject, options)


def _listed(trained: TrainedReid, count: int) -> dict[str, Tracklet]:
    data = trained.experiment.data
    try:
        query = load_dataset(data.dataset, data.root, data.split).query
    except UserError as error:
        raise UserError(f"the queries of the run: {error}; or name tracklets") from error
    chosen = (query[index] for index in evenly_spaced(count, len(query)))
    return {tracklet.path: tracklet for tracklet in chosen}
