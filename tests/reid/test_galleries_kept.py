"""Galleries through damage, full disks and kills: nothing half added, nothing lost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from reid.galleries.entries import About, IndexChoice, entries_of
from reid.galleries.folder import FolderGallery
from reid.galleries.places import open_gallery
from reid.galleries.store import Added, verify
from reid.retrieval.features import write_features
from tests.processes import largest_file
from tests.reid import galleries
from tests.reid.galleries import in_database, kept_in, made, table
from tests.reid.gallery_adding import Adding
from tests.reid.little import run
from tests.reid.servers import Server, new_server
from video_snl.errors import UserError

KILLS = 10


@pytest.mark.parametrize("part", ["entries", "vectors", "index"])
def test_damage_is_found(tmp_path: Path, part: str) -> None:
    gallery = made(str(tmp_path / "g"), galleries.entries(100), index="hnsw")
    [path] = (tmp_path / "g").glob(f"{part}-*")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        open_gallery(tmp_path / "g")
    assert "damaged" in gallery.faults()[0]
    path.unlink()
    with pytest.raises(UserError, match="is missing"):
        open_gallery(tmp_path / "g")
    words = ("gallery", "stats", str(tmp_path / "g"))
    done = run(*words)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("part", ["vectors", "index"])
@pytest.mark.parametrize("damage", ["cut short", "written over"])
def test_damage_under_an_open_gallery_is_found(tmp_path: Path, part: str, damage: str) -> None:
    """Its files are mapped: reading one that was cut short would end the process by a signal."""
    gallery = made(str(tmp_path / "g"), galleries.entries(500), index="hnsw")
    query = table(1).features
    assert gallery.search(query).keys(0)[0] == "t0000"
    [path] = (tmp_path / "g").glob(f"{part}-*")
    with path.open("r+b") as file:
        if damage == "cut short":
            file.truncate(10)
        else:
            file.seek(1000)
            file.write(bytes(10_000))
            os.utime(file.fileno(), (1, 1))
    for _ in range(2):
        with pytest.raises(UserError, match="damaged"):
            gallery.search(query)


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "null", '{"sha256": "0"}', "[" * 100_000, "\udc80"]
)
def test_a_damaged_description_is_one_line(tmp_path: Path, text: str) -> None:
    made(str(tmp_path / "g"), galleries.entries(3))
    (tmp_path / "g" / "gallery.json").write_text(text, errors="surrogateescape")
    done = run("gallery", "stats", str(tmp_path / "g"))
    assert done.returncode == 2 and "damaged" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_changed_description_is_refused(tmp_path: Path) -> None:
    made(str(tmp_path / "g"), galleries.entries(3))
    file = tmp_path / "g" / "gallery.json"
    values = json.loads(file.read_text())
    values["about"]["model"] = "1" * 64
    file.write_text(json.dumps(values))
    with pytest.raises(UserError, match="damaged"):
        open_gallery(tmp_path / "g")


def test_places_that_are_no_galleries(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "odd" / "gallery.json").mkdir(parents=True)
    with pytest.raises(UserError, match="cannot be read"):
        open_gallery(tmp_path / "odd")
    some = galleries.entries(3)
    with pytest.raises(UserError, match="not text in UTF-8"):
        made(str(tmp_path / "g\udcff"), some)
    for name, says in (("full", "thesis.tex"), ("file", "File exists")):
        with pytest.raises(UserError, match=says):
            made(str(tmp_path / name), some)
        with pytest.raises(UserError, match="no gallery"):
            open_gallery(tmp_path / name)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.tex"]
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / ".my-settings").write_text("mine")  # as temporary files are called
    with pytest.raises(UserError, match=".my-settings"):
        made(str(tmp_path / "hidden"), some)
    assert (tmp_path / "hidden" / ".my-settings").read_text() == "mine"
    for place in ("/proc/gallery", str(tmp_path / "file" / "gallery")):
        with pytest.raises(UserError, match="cannot be made"):
            made(place, some)


def test_two_processes_add_one_after_the_other(tmp_path: Path) -> None:
    """Both from the state of before: the second sees what the first has added."""
    made(str(tmp_path / "g"), galleries.entries(3))
    one, two = (open_gallery(tmp_path / "g") for _ in range(2))
    threads = [
        threading.Thread(target=each.add, args=(galleries.entries(200, first=first, seed=first),))
        for each, first in ((one, 1000), (two, 2000))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert one.stats().entries == two.stats().entries == 403
    assert verify(one)[0] == []
    names = sorted(path.name for path in (tmp_path / "g").iterdir())
    assert names == ["entries-000003.parquet", "gallery.json", "vectors-000003.npy"]


def test_a_full_disk_changes_nothing_in_a_folder(tmp_path: Path) -> None:
    gallery = made(str(tmp_path / "g"), galleries.entries(50, 256), index="hnsw")
    before, stats = sorted((tmp_path / "g").iterdir()), gallery.stats()
    write_features(tmp_path / "more.parquet", table(2000, 256, first=100, seed=1))
    # The ends of the names, of the vectors (2.1 MB) and of the index (2.6 MB).
    for size in (2_000, 1_000_000, 2_300_000):
        with largest_file(size):
            words = (str(tmp_path / "g"), str(tmp_path / "more.parquet"))
            done = run("gallery", "add", *words)
            new = run("gallery", "create", str(tmp_path / "new"), words[1], "--index", "hnsw")
        for each in (done, new):
            assert each.returncode == 2 and "File too large" in each.stderr
            assert "make room" in each.stderr and len(each.stderr.splitlines()) == 1
        assert sorted((tmp_path / "g").iterdir()) == before and not (tmp_path / "new").exists()
        assert verify(gallery)[0] == [] and gallery.stats() == stats
    assert run("gallery", "add", *words).returncode == 0


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    folder.mkdir()
    mount = ("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this process may not mount a small file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_of_the_server_changes_nothing(
    postgres: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import psycopg

    place = postgres.folder.parent / f"{postgres.folder.name}-small"
    with small_disk(place, "3m") as disk:
        owner = postgres.folder.stat()
        os.chown(disk, owner.st_uid, owner.st_gid)
        with psycopg.connect(postgres.url, autocommit=True) as connected:
            connected.execute(f"CREATE TABLESPACE small LOCATION '{disk}'")  # type: ignore[arg-type]
            try:
                monkeypatch.setenv("PGOPTIONS", "-c default_tablespace=small")
                gallery = made(in_database(postgres.url)(), galleries.entries(50))
                stats = gallery.stats()
                write_features(tmp_path / "more.parquet", table(20_000, first=100, seed=1))
                done = run("gallery", "add", gallery.where, str(tmp_path / "more.parquet"))
                assert done.returncode == 2 and "disk is full" in done.stderr
                assert len(done.stderr.splitlines()) == 1
                assert verify(gallery)[0] == []
                assert gallery.stats().contents == stats.contents
            finally:
                monkeypatch.delenv("PGOPTIONS")
                schema = gallery.where.partition("#")[2].replace('"', '""')
                connected.execute(f'DROP SCHEMA "{schema}" CASCADE')  # type: ignore[arg-type]
                connected.execute("DROP TABLESPACE small")
    shutil.rmtree(place, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["folder", "postgres"])
def test_kills_of_the_client_leave_nothing_half_added(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    gallery = made(kept_in(kind, tmp_path, request)(), galleries.entries(500, 64))
    features = _more(tmp_path, 1000)
    acknowledged = _times_of_an_undisturbed(gallery.where, features)
    size, unfinished = gallery.stats().entries, 0
    for kill in range(KILLS):
        adding = Adding(gallery.where, _more(tmp_path, 10_000 * (kill + 2)))
        adding.begin()
        time.sleep(acknowledged * (kill + 0.5) / KILLS)
        adding.process.kill()
        added, _, _ = adding.end()
        size, finished = _whole(gallery.where, size, added)
        unfinished += not finished
    assert unfinished, "no kill came before the end: nothing was tried"


@pytest.mark.slow
def test_kills_of_the_server_leave_nothing_half_added(tmp_path: Path) -> None:
    server = new_server()
    try:
        gallery = made(in_database(server.url)(), galleries.entries(500, 64))
        acknowledged = _times_of_an_undisturbed(gallery.where, _more(tmp_path, 1000))
        size, unfinished = gallery.stats().entries, 0
        for kill in range(KILLS):
            adding = Adding(gallery.where, _more(tmp_path, 10_000 * (kill + 2)))
            adding.begin()
            time.sleep(acknowledged * (kill + 0.5) / KILLS)
            server.kill()
            added, _, errors = adding.end()
            assert added or (len(errors.splitlines()) == 1 and server.url in errors), errors
            server.start()
            size, finished = _whole(gallery.where, size, added)
            unfinished += not finished
        assert unfinished, "no kill came before the end: nothing was tried"
    finally:
        server.stop()


_ADDED = 4000


def _more(folder: Path, first: int) -> str:
    """Write a file of tracklets that are nowhere yet."""
    path = folder / f"{first}.parquet"
    write_features(path, table(_ADDED, 64, first=first, seed=first))
    return str(path)


def _times_of_an_undisturbed(where: str, features: str) -> float:
    adding = Adding(where, features)
    adding.begin()
    added, seconds, errors = adding.end()
    assert added, errors
    return seconds


def _whole(where: str, before: int, acknowledged: bool) -> tuple[int, bool]:
    """Check that all was added or nothing, and all that was acknowledged.

    Returns:
        Number of entries, and whether those of the last time are among them.
    """
    gallery = open_gallery(where)
    assert verify(gallery)[0] == []
    now = gallery.stats().entries
    assert now in (before, before + _ADDED)
    assert now == before + _ADDED or not acknowledged
    return now, now != before


def test_what_was_interrupted_can_be_given_again(tmp_path: Path) -> None:
    """Files of a state that was never put in place are removed by the next change."""
    gallery = made(str(tmp_path / "g"), galleries.entries(10))
    for name in (
        "entries-000002.parquet",
        "vectors-000002.npy",
        ".vectors-000002.0a1b2c3d.partial.npy",
    ):
        (tmp_path / "g" / name).write_bytes(b"half")
    assert open_gallery(tmp_path / "g").stats().entries == 10
    assert gallery.add(entries_of(table(5, first=50))) == Added(5, 0)
    names = sorted(path.name for path in (tmp_path / "g").iterdir())
    assert names == ["entries-000002.parquet", "gallery.json", "vectors-000002.npy"]


def test_a_reader_goes_on_while_another_process_writes(tmp_path: Path) -> None:
    made(str(tmp_path / "g"), galleries.entries(200))
    reader, writer = (open_gallery(tmp_path / "g") for _ in range(2))
    reading = reader.read()
    assert len(next(reading)) == 200
    for first in range(1000, 1005):
        writer.add(entries_of(table(1, first=first, seed=first)))
        assert reader.stats().entries == first - 1000 + 201
    assert len(reader.search(np.ones((1, 24)), top=300).keys(0)) == 205
    assert About.of(table(1), "cosine", "auto") == reader.about


@pytest.mark.parametrize("index", ["ivf", "hnsw"])
def test_an_index_outlasts_its_file(
    tmp_path: Path, index: IndexChoice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process changes the gallery after this one has looked which state there is."""
    some = galleries.entries(100)
    gallery = made(str(tmp_path / "g"), some, index=index)
    assert isinstance(gallery, FolderGallery)
    state = gallery._state
    open_gallery(tmp_path / "g").remove(some.keys[1:])
    monkeypatch.setattr(gallery, "_fresh", lambda: state)
    found = gallery.search(some.table.features[:50], top=1)
    assert not found.exact and [found.keys(q) for q in range(50)] == [[k] for k in some.keys[:50]]


def test_an_index_of_another_faiss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: object) -> None:
        raise RuntimeError("Index type 0x1 not recognized")

    made(str(tmp_path / "g"), galleries.entries(100), index="hnsw")
    monkeypatch.setattr("faiss.read_index", read)
    with pytest.raises(UserError, match="FAISS .* cannot read it"):
        open_gallery(tmp_path / "g")


def test_a_small_index_is_made_in_silence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    made(str(tmp_path / "g"), galleries.entries(5), index="ivf")
    assert capfd.readouterr().err == ""
