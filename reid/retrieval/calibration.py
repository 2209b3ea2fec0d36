"""Thresholds for who is not in a gallery, chosen on labelled features and kept in a file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy.stats import binomtest

from reid.data.tracklet import JUNK
from reid.galleries.entries import key_of
from reid.metrics.open_set import (
    FEWEST,
    OpenSet,
    open_set_of_features,
    threshold_interval,
)
from reid.metrics.ranking import Cameras
from reid.retrieval.features import FeatureTable, same_model, shared_numbers
from reid.retrieval.index import Metric
from video_snl.errors import UserError
from video_snl.utils.counts import counts
from video_snl.utils.files import write_json
from video_snl.utils.json_text import parse_json

__all__ = [
    "NO_PROBABILITIES",
    "Calibration",
    "calibrate",
    "interval_of",
    "measure",
    "read_calibration",
    "searches_text",
]

FORMAT = 1
# Types of the values in JSON; true and false are no numbers.
_KINDS = {
    (str,): ("model", "checkpoint", "metric", "cameras"),
    (int,): ("dimension", "searches", "identities", "entries"),
    (int, type(None)): ("test_frames",),
    (int, float): ("wanted", "threshold", "rate", "detection_rate"),
}
NO_PROBABILITIES = "distances are not probabilities: they say who is nearer, not who it is"


@dataclass(frozen=True)
class Calibration:
    """A threshold on the distance of a search's nearest entry, and what it was chosen on.

    Attributes:
        model: Hash of the network.
        checkpoint: Its path, for messages.
        dimension: Length of its features.
        test_frames: Frames of each tracklet that were looked at; None for all.
        metric: Distance.
        cameras: Which entries counted.
        query, gallery: Files of the features, with their SHA-256.
        searches: Number of searches for somebody who is not there.
        identities: Number of the identities that were searched for.
        entries: Number of gallery entries that counted.
        wanted: False-alarm rate that the threshold was chosen for.
        threshold: Distances up to it are taken for the same person.
        interval: 95 % bootstrap interval of the threshold.
        rate: False-alarm rate at the threshold, on these very searches.
        rate_interval: 95 % interval of that rate (Clopper and Pearson).
        detection_rate: Share of the searches for people who are there that find them first, and
            within the threshold.
        others: Distances of the nearest entry of somebody else, ascending, float32; of searches
            that found nobody else there is none.
    """

    model: str
    checkpoint: str
    dimension: int
    test_frames: int | None
    metric: Metric
    cameras: Cameras
    query: Mapping[str, str]
    gallery: Mapping[str, str]
    searches: int
    identities: int
    entries: int
    wanted: float
    threshold: float
    interval: tuple[float, float]
    rate: float
    rate_interval: tuple[float, float]
    detection_rate: float
    others: np.ndarray

    def false_alarm_rate(self, distance: float) -> float:
        """Return the share of searches for people who are not there that come so near.

        (1 + number of distances in ``others`` up to this one) / (1 + searches): the p-value of
        "this person is not in the gallery", and no probability that it is the person found.
        """
        near = int(np.searchsorted(self.others, np.float32(distance), side="right"))
        return (1 + near) / (1 + self.searches)

    def check(self, table: FeatureTable, metric: str, path: str) -> None:
        """Check that features and distances are those of the calibration.

        Raises:
            UserError: They are of another network, of another number of frames, or compared by
                another distance.
        """
        frames = {"all" if of is None else of for of in (self.test_frames, table.test_frames)}
        if (self.model, self.dimension) != (table.model, table.dimension):
            raise UserError(
                f"{path} is of {self.checkpoint} (hash {self.model[:12]}, dimension "
                f"{self.dimension}), the gallery's features are of {table.checkpoint} (hash "
                f"{table.model[:12]}, dimension {table.dimension}): calibrate features of that "
                "network (reid calibrate)"
            )
        if len(frames) > 1 or metric != self.metric:
            raise UserError(
                f"{path} is of --test_frames {self.test_frames or 'all'} and --metric "
                f"{self.metric}, this search of --test_frames {table.test_frames or 'all'} and "
                f"--metric {metric}: calibrate with what is searched with"
            )

    def write(self, path: Path) -> None:
        """Write the calibration as JSON, whole or not at all."""
        values = asdict(self) | {"others": [float(value) for value in self.others]}
        write_json(path, {"format": FORMAT, "kind": "reid calibration", **values}, finite=True)


def read_calibration(path: str) -> Calibration:
    """Read a file of :meth:`Calibration.write`.

    Raises:
        UserError: It is missing, damaged, of another program or of a later version.
    """
    try:
        values = parse_json(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read ({error}); make it with reid calibrate ... -o {path}"
        ) from error
    known = isinstance(values, dict) and values.pop("kind", None) == "reid calibration"
    if not known or values.pop("format", None) != FORMAT:
        raise UserError(
            f"{path} is not a calibration of format {FORMAT}; make it with reid calibrate"
        )
    try:
        for name in ("interval", "rate_interval"):
            low, high = map(float, values[name])
            values[name] = low, high
        with np.errstate(over="ignore"):  # which is refused below
            values["others"] = np.array(values["others"], dtype=np.float32)
        found = Calibration(**values)
        sound = (
            all(type(values[name]) in kinds for kinds, names in _KINDS.items() for name in names)
            and 0 <= found.threshold < math.inf
            and all(isinstance(files, dict) for files in (found.query, found.gallery))
            and found.others.ndim == 1
            and len(found.others) <= found.searches
            and bool(np.isfinite(found.others).all() and (np.diff(found.others) >= 0).all())
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is damaged ({error}); make it anew with reid calibrate") from error
    if not sound:
        raise UserError(f"{path} is damaged; make it anew with reid calibrate")
    return found


def measure(
    query: FeatureTable, gallery: FeatureTable, *, metric: Metric, cameras: Cameras
) -> OpenSet:
    """Compare labelled features as :func:`reid.metrics.open_set.open_set_of_features` does.

    A gallery entry of the name of a query (:func:`~reid.galleries.entries.key_of`) is the query
    itself.

    Raises:
        UserError: Features of different networks, identities or cameras that are not known, or
            nothing to compare.
    """
    same_model(query, gallery)
    (asked, asked_views), (searched, views) = shared_numbers([query, gallery])
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(gallery.names):
        rows.setdefault(key_of(name), []).append(row)
    same = [
        (row, entry)
        for row, name in enumerate(query.names)
        for entry in rows.get(key_of(name), ())
        if asked[row] == searched[entry]
    ]
    return open_set_of_features(
        query.features,
        gallery.features,
        asked,
        searched,
        asked_views,
        views,
        metric=metric,
        cameras=cameras,
        own=same,
    )


def calibrate(
    query: FeatureTable,
    gallery: FeatureTable,
    found: OpenSet,
    *,
    false_alarms: float,
    metric: Metric,
    cameras: Cameras,
    files: tuple[Mapping[str, str], Mapping[str, str]],
) -> Calibration:
    """Choose the largest threshold with at most a false-alarm rate.

    Args:
        query, gallery: Features that were measured.
        found: What :func:`measure` found of them.
        false_alarms: Wanted rate, above 0 and below 1.
        metric, cameras: As for :func:`measure`.
        files: Files of the two, with their SHA-256.

    Raises:
        UserError: There are too few searches for this rate, or no threshold has it.
    """
    threshold = found.threshold(false_alarms)
    if threshold is None:
        least = _upwards(FEWEST / found.searches)
        help_ = f"give {least:g} or more, or more queries" if least < 1 else "give more queries"
        raise UserError(
            f"--false_alarms {false_alarms:g} is not measurable: it needs "
            f"{math.ceil(FEWEST / false_alarms):,} searches, so that {FEWEST} are expected to "
            f"fail, and there {'is' if found.searches == 1 else 'are'} {found.searches:,}: {help_}"
        )
    if threshold < 0:
        raise UserError(
            f"--false_alarms {false_alarms:g}: {int((found.others == 0).sum()):,} of "
            f"{found.searches:,} searches find somebody else at the distance 0, so no threshold "
            "has so few: check the features (reid evaluate), and for a person of several names"
        )
    alarms, searches = found.false_alarm_rate(threshold)
    right, mated = found.detected(threshold)
    return Calibration(
        model=query.model,
        checkpoint=query.checkpoint,
        dimension=query.dimension,
        test_frames=query.test_frames,
        metric=metric,
        cameras=cameras,
        query=files[0],
        gallery=files[1],
        searches=searches,
        identities=len(np.unique(found.persons)),
        entries=sum(number != JUNK for number in gallery.person_ids.tolist()),
        wanted=false_alarms,
        threshold=threshold,
        interval=threshold_interval(found, false_alarms),
        rate=alarms / searches,
        rate_interval=interval_of(alarms, searches),
        detection_rate=right / mated,
        others=np.sort(found.others[np.isfinite(found.others)]),
    )


def _upwards(value: float) -> float:
    """Return a positive number of two digits that is at least this one."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / unit - 1e-9) * unit:.2g}")


def interval_of(events: int, total: int) -> tuple[float, float]:
    """Compute the exact 95 % interval of a share (Clopper and Pearson, Biometrika 1934)."""
    interval = binomtest(events, total).proportion_ci(0.95, "exact")
    return float(interval.low), float(interval.high)


def searches_text(found: OpenSet) -> str:
    """Say what was compared, in two lines."""
    lines = [
        f"{counts(found.searches, 'search', 'searches')} for people who are not there, "
        f"{int(found.mated.sum()):,} for people who are; "
        f"{counts(len(np.unique(found.persons)), 'identity')}",
        f"trials: {len(found.genuine):,} genuine, {found.impostors:,} of impostors; area under the "
        f"ROC curve {found.area():.2%}",
    ]
    if found.left_out:
        lines.append(f"queries of junk or distractors, left out: {found.left_out:,}")
    return "\n".join(lines)
