"""Report of an evaluation: numbers, lists, plots, and one page that holds them all."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reid.data.tracklet import Tracklet
from reid.metrics.ranking import RANKS
from reid.report.evaluation import CameraPair, camera_pairs, metrics
from reid.report.figures import CAMERAS_IGNORED
from reid.report.page import Shown, camera_table, entry_view, write_reid_page
from reid.report.plots import Embedding, embed, plot_cmc, plot_embedding
from reid.report.ranked_lists import (
    Choice,
    RankedList,
    choose_queries,
    draw_lists,
    ranked_list,
)
from video_snl.render.page import embedded_png, per_cent
from video_snl.utils.counts import counts, noun
from video_snl.utils.files import write_json, write_text

if TYPE_CHECKING:
    from reid.report.evaluation import Evaluation
    from reid.retrieval.features import FeatureTable

__all__ = ["write_report"]

_LISTED = 50  # names of queries without a match on the page
_WHY = {
    "worst": "Among the lowest AP",
    "random": "Drawn at random",
    "best": "Among the highest AP",
}


def write_report(folder: Path, evaluation: Evaluation) -> Path:
    """Write the report into ``folder``, each file atomically; the same evaluation, the same files.

    ``metrics.json``, ``rankings.csv`` (the ten nearest of every query), ``camera_pairs.csv``,
    ``cmc.png``, ``tsne.png``, ``ranked_list.png`` and ``report.html``, a page that needs none of
    the others and no network. Frames that do not open are crossed boxes in the images.

    Returns:
        Path of the page.
    """
    numbers = metrics(evaluation)
    lists = [ranked_list(evaluation, query) for query in range(len(evaluation.query.names))]
    pairs = camera_pairs(evaluation)
    embedding = embed(evaluation)
    first = next(iter(evaluation.rankings.values()))
    choices = choose_queries(np.asarray(first.average_precision))
    asked, searched = _shown_rows(evaluation)
    chosen = [lists[choice.query] for choice in choices]
    write_json(folder / "metrics.json", numbers)
    write_text(folder / "rankings.csv", _rankings(evaluation, lists))
    cameras = evaluation.camera_names()
    write_text(folder / "camera_pairs.csv", _csv(CameraPair._fields, _named(pairs, cameras)))
    plot_cmc(evaluation.rankings, folder / "cmc.png", evaluation.max_rank)
    plot_embedding(embedding, folder / "tsne.png")
    draw_lists(chosen, asked, searched, folder / "ranked_list.png")
    values = {
        **_headline(numbers),
        "cameras_note": CAMERAS_IGNORED if evaluation.cameras == "ignore" else "",
        "match": "under any camera" if evaluation.cameras == "ignore" else "under another camera",
        "ignored": "the query itself"
        if evaluation.cameras == "ignore"
        else "the same person under the same camera",
        "cmc": {**embedded_png(folder / "cmc.png"), "alt": _cmc_alt(numbers)},
        "tsne": {**embedded_png(folder / "tsne.png"), **_tsne_words(embedding)},
        "lists": _list_views(choices, chosen, first.average_precision, asked, searched),
        **dict(zip(("columns", "pairs"), camera_table(pairs, cameras), strict=True)),
        "settings": list(numbers["settings"].items()),
    }
    write_reid_page(folder / "report.html", "report.html", values)
    return folder / "report.html"


def _shown_rows(evaluation: Evaluation) -> tuple[list[Shown], list[Shown]]:
    data = evaluation.data
    return (
        _shown(evaluation.query, data.query),
        _shown(evaluation.gallery, [*data.gallery, *data.junk]),
    )


def _shown(table: FeatureTable, tracklets: Sequence[Tracklet]) -> list[Shown]:
    """Find the frames of a table's rows by the tracklet's first frame or, if unique, its name.

    A row that is not a tracklet of the dataset has no frames to show.
    """
    by_name: dict[str, Tracklet | None] = {}
    for tracklet in tracklets:
        by_name[tracklet.name] = None if tracklet.name in by_name else tracklet
    by_name.update({tracklet.path: tracklet for tracklet in tracklets})
    rows = []
    known = zip(
        table.names, table.person_names, table.camera_names, table.num_frames.tolist(), strict=True
    )
    for name, person, camera, count in known:
        found = by_name.get(name)
        rows.append(Shown(name, found.frames if found else (), person, camera, count))
    return rows


def _named(pairs: Iterable[CameraPair], names: Mapping[int, str]) -> Iterator[Sequence[Any]]:
    """Yield the pairs with the names of their cameras."""
    for pair in pairs:
        cameras = pair.query_camera, pair.gallery_camera
        yield (*(names.get(camera, camera) for camera in cameras), *pair[2:])


def _rankings(evaluation: Evaluation, lists: Iterable[RankedList]) -> str:
    query, gallery = evaluation.query, evaluation.gallery
    asked_names = list(zip(query.person_names, query.camera_names, strict=True))
    names = list(zip(gallery.person_names, gallery.camera_names, strict=True))
    head = ("query", "query_person", "query_camera", "rank", "distance")
    rows: list[Sequence[Any]] = []
    for each in lists:
        row = each.query
        asked = query.names[row], *asked_names[row]
        for entry in each.entries:
            found = entry.row
            rank = "" if entry.rank is None else entry.rank
            distance = f"{entry.distance:.6g}"
            rows.append(
                (*asked, rank, distance, gallery.names[found], *names[found], entry.verdict)
            )
    return _csv((*head, "tracklet", "person", "camera", "verdict"), rows)


def _csv(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue()


def _headline(numbers: dict[str, Any]) -> dict[str, Any]:
    rankings, data = numbers["rankings"], numbers["data"]
    rows = {f"rank-{rank}": f"rank{rank}" for rank in RANKS} | {"mAP": "mAP", "mINP": "mINP"}
    counted = {"queries counted": "queries_counted", "without a match": "queries_without_match"}
    without = numbers["queries_without_match"]
    junk = f"; {data['junk']} more junk" if data["junk"] else ""
    return {
        "title": f"Re-identification on {_dataset_of(numbers)}",
        "facts": f"{_network_of(numbers)}{counts(data['queries'], 'query')} of "
        f"{counts(data['people'], 'identity')}, "
        f"{counts(data['gallery'], 'gallery tracklet')} ({data['distractors']} of them "
        f"{noun(data['distractors'], 'distractor')}{junk}), {counts(data['cameras'], 'camera')}.",
        "protocols": list(rankings),
        "headline": [
            *_rows(rankings, rows, per_cent),
            *_rows(rankings, counted, str),
        ],
        "notes": _notes(numbers),
        "unmatched": without[:_LISTED],
        "unmatched_count": len(without),
    }


def _dataset_of(numbers: dict[str, Any]) -> str:
    """Name the dataset; one that is a folder of one's own, by the folder."""
    name, root = str(numbers["data"]["name"]), numbers["settings"].get("root")
    own = Path(str(root)).expanduser().resolve().name if root and name == "folder" else ""
    return own or name


def _network_of(numbers: dict[str, Any]) -> str:
    settings = numbers["settings"]
    network, block = settings.get("model.backbone"), settings.get("model.block")
    if network is None:  # features that were made elsewhere
        return ""
    return f"{network}, {'no block' if block == 'none' else f'block {block}'}: "


def _rows(rankings: dict[str, Any], rows: dict[str, str], text: Any) -> list[dict[str, Any]]:
    return [
        {"name": name, "values": [text(ranking[key]) for ranking in rankings.values()]}
        for name, key in rows.items()
    ]


def _notes(numbers: dict[str, Any]) -> list[str]:
    skipped, unreadable = numbers["skipped_frames"], numbers["unreadable"]
    total = sum(skipped.values())
    notes = [
        f"Frames that could not be read and were skipped: {total}"
        + (f"; tracklets with such frames: {len(skipped)} ({_few(skipped)})." if total else ".")
    ]
    if unreadable:
        notes.append(
            f"Tracklets without a readable frame: {len(unreadable)} ({_few(unreadable)}). Queries "
            "among them count as wrong, the others are left out."
        )
    return notes


def _few(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _cmc_alt(numbers: dict[str, Any]) -> str:
    parts = [
        f"{name}: " + ", ".join(f"rank-{rank} {per_cent(values[f'rank{rank}'])}" for rank in RANKS)
        for name, values in numbers["rankings"].items()
    ]
    return "CMC curves. " + "; ".join(parts)


def _tsne_words(embedding: Embedding) -> dict[str, str]:
    if not len(embedding.points):
        said = "There are too few tracklets of identities with several."
        return {"alt": f"No t-SNE. {said}", "caption": said}
    count, identities = len(embedding.points), len(set(embedding.identities.tolist()))
    said = (
        f"t-SNE of the features of {counts(count, 'tracklet')} of {counts(identities, 'identity')} "
        f"(perplexity "
        f"{embedding.perplexity:.3g}). Colours and names are identities, markers cameras; "
        "queries have a black edge."
    )
    reading = (
        "Look for tracklets of one identity that lie apart by camera; sizes of groups and "
        "distances between them mean nothing."
    )
    return {"alt": said, "caption": f"{said} {reading}"}


def _list_views(
    choices: Sequence[Choice],
    lists: Sequence[RankedList],
    precision: Any,
    asked: Sequence[Shown],
    searched: Sequence[Shown],
) -> list[dict[str, Any]]:
    views = []
    for choice, each in zip(choices, lists, strict=True):
        entries = [
            entry_view(searched[entry.row], entry.verdict, rank=entry.rank, distance=entry.distance)
            for entry in each.entries
        ]
        views.append(
            {
                "heading": f"{_WHY[choice.why]}: person {asked[each.query].person}, "
                f"AP {per_cent(float(precision[each.query]))}",
                "query": entry_view(asked[each.query], "query"),
                "entries": entries,
            }
        )
    return views
