"""``reid calibrate``: open-set measures of labelled features, and the threshold for a search."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reid.metrics.open_set import RATES, OpenSet
from reid.metrics.ranking import Cameras
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
from reid.retrieval.index import Metric
from reid.retrieval.searching import filled_table
from video_snl.errors import UserError
from video_snl.utils.files import check_file, digest_of, writing
from video_snl.utils.json_text import to_json

__all__ = ["run_calibrate"]

_UNMEASURED = "not measurable"
_ADVICE = (
    f"{NO_PROBABILITIES}; choose a threshold on people who are neither trained on nor tested on, "
    "under the cameras and in a gallery of the size that it is for"
)


def run_calibrate(
    queries: Sequence[str],
    gallery: str,
    *,
    output: str | None = None,
    false_alarms: float = 0.01,
    metric: Metric = "cosine",
    cameras: Cameras = "cross",
    check: str | None = None,
    page: str | None = None,
    as_json: bool = False,
) -> int:
    """Measure labelled features; choose a threshold and write it, or measure one (``check``).

    Args:
        queries: Feature files of the queries.
        gallery: Feature file to search in.
        output: Calibration to write; None: nothing is chosen.
        false_alarms: Wanted share of the searches for people who are not there that find somebody.
        metric: ``cosine`` or ``euclidean``.
        cameras: ``cross`` or ``ignore``.
        check: Calibration whose threshold is measured on these features.
        page: HTML page to write.
        as_json: Print JSON instead of text.

    Raises:
        UserError: Bad files, features of different networks, labels that are not known, a rate that
            is not measurable.
    """
    if not 0 < false_alarms < 1:
        raise UserError(f"--false_alarms {false_alarms:g}: give a share above 0 and below 1")
    if check is not None and output is not None:
        raise UserError("--check measures a threshold and chooses none: leave -o out, or --check")
    for option, path, example in (("-o", output, "calibration.json"), ("--page", page, "roc.html")):
        if path is not None:
            check_file(option, path, example)
    fixed = None if check is None else read_calibration(check)
    asked, searched = concatenate([filled_table(path) for path in queries]), filled_table(gallery)
    if fixed is not None:
        fixed.check(searched, metric, str(check))
    found = measure(asked, searched, metric=metric, cameras=cameras)
    chosen = fixed
    if output is not None:
        files = ({path: digest_of(Path(path)) for path in names} for names in (queries, [gallery]))
        chosen = calibrate(
            asked,
            searched,
            found,
            false_alarms=false_alarms,
            metric=metric,
            cameras=cameras,
            files=tuple(files),  # type: ignore[arg-type]
        )
        with writing("-o", output):
            chosen.write(Path(output))
    values = _values(found, chosen, searched, gallery)
    print(to_json(values, indent=2) if as_json else _text(found, values, output, check), flush=True)
    if page is not None:
        from reid.report.calibration_page import write_calibration_page

        with writing("--page", page):
            write_calibration_page(Path(page), found, values, text=searches_text(found))
        if not as_json:
            print(f"page: {page}")
    return 0


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


def _text(found: OpenSet, values: dict[str, Any], output: str | None, check: str | None) -> str:
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
        what = f"chosen for {chosen['wanted']:.2%} false alarms" if check is None else f"of {check}"
        lines += [
            "",
            f"threshold {chosen['threshold']:.4f}, {what} (95 % interval {low:.4f} to {high:.4f})",
            f"false alarms at it: {chosen['rate']:.2%} ({chosen['false_alarms']:,} of "
            f"{values['searches']:,}; 95 % interval {first:.2%} to {last:.2%})",
            f"found first and within it: {chosen['detection_rate']:.2%} "
            f"({chosen['detected']:,} of {values['mated_searches']:,})",
        ]
    lines += ["", _ADVICE]
    if output is not None:
        lines.append(f"calibration: {output} (reid search --calibrate {output})")
    return "\n".join(lines)
