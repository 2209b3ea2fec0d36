"""``reid calibrate``: open-set measures of labelled features, and the threshold for a search."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reid.galleries.places import Searchable
from reid.metrics.open_set import RATES, OpenSet
from reid.retrieval.calibration import (
    NO_PROBABILITIES,
    Calibration,
    calibrate,
    interval_of,
    measure,
    read_calibration,
    searches_text,
)
from reid.retrieval.features import FeatureTable, concatenate
from video_snl.errors import UserError
from video_snl.utils.files import check_file, writing
from video_snl.utils.json_text import to_json

if TYPE_CHECKING:
    from reid.cli.features import Calibrate as Options

__all__ = ["run_calibrate"]

_UNMEASURED = "not measurable"
_ADVICE = (
    f"{NO_PROBABILITIES}; choose a threshold on people who are neither trained on nor tested on, "
    "under the cameras and in a gallery of the size that it is for"
)


def run_calibrate(given: Options) -> int:
    """Measure labelled features; choose a threshold and write it, or measure one (``--check``).

    Raises:
        UserError: Bad files, features of different networks, labels that are not known, a rate that
            is not measurable.
    """
    _check_options(given)
    fixed = None if given.check is None else read_calibration(given.check)
    gallery = Searchable.open(given.gallery, metric=given.metric)
    if fixed is not None:
        fixed.check(gallery.table, gallery.metric, str(given.check))
    searched, digest = gallery.whole()
    parts = [Searchable.open(path).whole() for path in given.queries]
    asked = concatenate([table for table, _ in parts])
    digests = dict(zip(given.queries, (each for _, each in parts), strict=True))
    found = measure(asked, searched, metric=gallery.metric, cameras=given.cameras)
    chosen = fixed
    if given.output is not None:
        chosen = calibrate(
            asked,
            searched,
            found,
            false_alarms=given.false_alarms,
            metric=gallery.metric,
            cameras=given.cameras,
            files=(digests, {given.gallery: digest}),
        )
        with writing("-o", given.output):
            chosen.write(Path(given.output))
    values = _values(found, chosen, searched, given.gallery)
    facts = searches_text(found)
    same = [path for path, each in digests.items() if fixed and each in fixed.query.values()]
    if same:
        note = (
            f"{given.check} was chosen on {', '.join(same)}: its rates there are no measure of how "
            "it does on others; measure it on people whom it was not chosen on"
        )
        print(note, file=sys.stderr, flush=True)
        facts += f"\n{note}"
    print(to_json(values, indent=2) if given.json else _text(found, values, given), flush=True)
    if given.page is not None:
        from reid.report.calibration_page import write_calibration_page

        with writing("--page", given.page):
            write_calibration_page(Path(given.page), found, values, text=facts)
        if not given.json:
            print(f"page: {given.page}")
    return 0


def _check_options(given: Options) -> None:
    if not 0 < given.false_alarms < 1:
        raise UserError(f"--false_alarms {given.false_alarms:g}: give a share above 0 and below 1")
    if given.check is not None and given.output is not None:
        raise UserError("--check measures a threshold and chooses none: leave -o out, or --check")
    for option, path, example in (
        ("-o", given.output, "calibration.json"),
        ("--page", given.page, "roc.html"),
    ):
        if path is not None:
            check_file(option, path, example, [*given.queries, given.gallery, given.check])
    if given.page is not None:
        check_file("--page", given.page, "roc.html", [given.output])


def _values(
    found: OpenSet, chosen: Calibration | None, searched: FeatureTable, gallery: str
) -> dict[str, Any]:
    values: dict[str, Any] = {
        "gallery": gallery,
        "model": searched.model,
        "searches": found.searches,
        "mated_searches": int(found.mated.sum()),
        "left_out": found.left_out,
        "genuine_trials": len(found.genuine),
        "impostor_trials": found.impostors,
        "area_under_roc": found.area(),
        "rates": [
            {
                "rate": rate,
                "tar_at_far": found.true_accept_rate(rate),
                "dir_at_false_alarm_rate": found.detection_rate(rate),
                "threshold": found.threshold(rate),
            }
            for rate in RATES
        ],
        "scores": NO_PROBABILITIES,
        "chosen": None,
    }
    if chosen is not None:
        alarms, searches = found.false_alarm_rate(chosen.threshold)
        right, mated = found.detected(chosen.threshold)
        values["chosen"] = {
            "threshold": chosen.threshold,
            "interval": chosen.interval,
            "wanted": chosen.wanted,
            "false_alarms": alarms,
            "rate": alarms / searches,
            "rate_interval": interval_of(alarms, searches),
            "detected": right,
            "detection_rate": right / mated,
            "detection_rate_interval": interval_of(right, mated),
        }
    return values


def _text(found: OpenSet, values: dict[str, Any], given: Options) -> str:
    lines = [
        searches_text(found),
        "",
        f"{'rate':>8}  {'TAR at this FAR':>16}  {'DIR at this false-alarm rate':>29}",
    ]
    for row in values["rates"]:
        shares = (row["tar_at_far"], row["dir_at_false_alarm_rate"])
        said = [_UNMEASURED if share is None else f"{share:.2%}" for share in shares]
        lines.append(f"{row['rate']:8g}  {said[0]:>16}  {said[1]:>29}")
    chosen = values["chosen"]
    if chosen is not None:
        low, high = chosen["interval"]
        first, last = chosen["rate_interval"]
        what = f"chosen for {chosen['wanted']:.2%} false alarms"
        what = what if given.check is None else f"of {given.check}"
        lines += [
            "",
            f"threshold {chosen['threshold']:.4f}, {what} (95 % interval {low:.4f} to {high:.4f})",
            f"false alarms at it: {chosen['rate']:.2%} ({chosen['false_alarms']:,} of "
            f"{values['searches']:,}; 95 % interval {first:.2%} to {last:.2%})",
            f"found first and within it: {chosen['detection_rate']:.2%} "
            f"({chosen['detected']:,} of {values['mated_searches']:,})",
        ]
    lines += ["", _ADVICE]
    if given.output is not None:
        lines.append(f"calibration: {given.output} (reid search --calibrate {given.output})")
    return "\n".join(lines)
