"""Page of ``reid search``: queries and what was found, as film strips."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from reid.data.datasets.frames import list_frames
from reid.report.page import Shown, entry_view, write_reid_page
from video_snl.data.workers.pool import map_with_timeout
from video_snl.render.film_strips import DEADLINE, video_frames
from video_snl.utils.counts import counts
from video_snl.utils.media import is_image_name

if TYPE_CHECKING:
    from reid.retrieval.features import FeatureTable
    from reid.retrieval.index import SearchResult

__all__ = ["tracklet_frames", "write_search_page"]

# A page with more would be hard to read, and a large file.
_QUERIES = 20
_RESULTS = 20


def write_search_page(
    path: Path,
    asked: FeatureTable,
    table: FeatureTable,
    found: SearchResult,
    *,
    gallery: str,
    called: str | None = None,
    verdicts: Sequence[str] | None = None,
    note: str | None = None,
    size: int | None = None,
) -> None:
    """Write what was found, at most 20 results of the first 20 queries.

    Frames are looked for where the tables' names say, see :func:`tracklet_frames`. Where nothing is
    there any more, the strip is a crossed box.

    Args:
        path: File to write.
        asked: Features of the queries.
        table: Features of the gallery.
        found: Result of the search.
        gallery: Name of the gallery, for the page.
        called: Name of the queries on the page; None for their own names.
        verdicts: For each query, whether its person is in the gallery; None: nothing is said.
        note: What the distances mean.
        size: Tracklets of the gallery, where the table has only those that were found.
    """
    rows = range(min(_QUERIES, len(asked.names)))
    columns = {
        row: [int(column) for column in found.indices[row].tolist() if column >= 0][:_RESULTS]
        for row in rows
    }
    wanted = sorted({column for some in columns.values() for column in some})
    frames = tracklet_frames({**_lengths(asked, rows), **_lengths(table, wanted)})
    asked_names = asked.person_names, asked.camera_names
    names = table.person_names, table.camera_names
    lists = []
    for row in rows:
        distances = found.distances[row].tolist()
        entries = [
            entry_view(
                _shown(table, names, column, frames),
                "found",
                rank=rank,
                distance=distances[rank - 1],
            )
            for rank, column in enumerate(columns[row], start=1)
        ]
        query = _shown(asked, asked_names, row, frames)
        query = query if called is None else replace(query, name=called)
        lists.append(
            {
                "heading": query.name,
                "verdict": "" if verdicts is None else verdicts[row],
                "query": entry_view(query, "query"),
                "entries": entries,
            }
        )
    more = len(asked.names) - len(lists)
    size = len(table.names) if size is None else size
    facts = f"The nearest of {counts(size, 'tracklet')} in {gallery}."
    if more:
        facts += f" Not on this page: {counts(more, 'more query', 'more queries')}."
    values = {"title": "Search for identities", "facts": facts, "note": note, "lists": lists}
    write_reid_page(path, "search.html", values)


def tracklet_frames(
    lengths: Mapping[str, int], num_workers: int = 1
) -> dict[str, Sequence[str | Image.Image]]:
    """Return the images of tracklets by their names; none for those that are no longer there.

    A name is a folder of images, a video, or the first frame of a tracklet: then the frames are
    that one and those after it in the folder's order.

    Args:
        lengths: Number of frames of each tracklet, by its name.
        num_workers: Processes that decode videos.
    """
    found: dict[str, Sequence[str | Image.Image]] = {}
    videos = []
    for name, length in lengths.items():
        path = Path(name)
        if path.is_dir():
            found[name] = list_frames(name)
        elif is_image_name(path):
            found[name] = _from_first(path, length) if path.parent.is_dir() else ()
        elif path.is_file():
            videos.append(name)
    if videos:  # decoders may never return: they run where they can be ended
        results = map_with_timeout(video_frames, videos, num_workers=num_workers, deadline=DEADLINE)
        for result in results:
            arrays = result.value or []
            found[result.item] = [Image.fromarray(array) for array in arrays]
    return found


def _from_first(first: Path, length: int) -> Sequence[str]:
    frames = list_frames(first.parent)
    names = [Path(frame).name for frame in frames]
    start = names.index(first.name) if first.name in names else len(names)
    return frames[start : start + length]


def _lengths(table: FeatureTable, rows: Iterable[int]) -> dict[str, int]:
    """Return the number of frames of some tracklets, with unreadable ones, by their names."""
    return {
        table.names[row]: int(table.num_frames[row]) + int(table.skipped_frames[row])
        for row in rows
    }


def _shown(
    table: FeatureTable,
    names: tuple[list[str | None], list[str | None]],
    row: int,
    frames: dict[str, Sequence[Any]],
) -> Shown:
    name = table.names[row]
    return Shown(
        name, frames.get(name, ()), names[0][row], names[1][row], int(table.num_frames[row])
    )
