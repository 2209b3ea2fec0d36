"""Connections of galleries: secrets, TLS, wrong passwords, servers that are not as needed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from reid.galleries.store import verify
from reid.retrieval.features import write_features
from tests.reid import galleries
from tests.reid.galleries import in_database, made, table
from tests.reid.little import run
from tests.reid.servers import PASSWORD, Server, SystemServer, own_address, system_server
from video_snl.errors import UserError

pytest.importorskip("psycopg", reason="psycopg is not installed")

from psycopg.conninfo import conninfo_to_dict

from reid.galleries.connection import parse_address


@pytest.fixture(scope="module")
def guarded() -> Iterator[SystemServer]:
    with system_server() as server:
        yield server


@pytest.fixture(autouse=True)
def _no_settings_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PG")]:
        monkeypatch.delenv(name)


def refused(*words: str) -> str:
    done = run("gallery", *words)
    assert done.returncode == 2 and done.stdout == ""
    [line] = done.stderr.splitlines()
    return line


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:hush@host/db",
        "postgresql://me:hush@host/db#name",
        "postgres://me:hu%73h@host/db",
        "postgresql://host/db?password=hush",
        "postgresql://host/db?user=me&sslpassword=hush",
        "postgresql://me:hush%zz@host/db",
        "postgresql://me:hush#1@host/db",
        "postgresql://me:hush/1@host/db",
        "postgresql://me:1?hush@host/db#name",
    ],
)
def test_a_password_in_the_address_is_refused_and_not_repeated(url: str) -> None:
    line = refused("stats", url)
    assert "PGPASSFILE" in line and "hush" not in line and "%73" not in line


@pytest.mark.parametrize(
    ("url", "environment", "sslmode"),
    [
        ("postgresql://db.example.org/x", {}, "verify-full"),
        ("postgresql:///x?host=192.0.2.7", {}, "verify-full"),
        ("postgresql:///x?hostaddr=192.0.2.7", {}, "verify-full"),
        ("postgresql://localhost,db.example.org/x", {}, "verify-full"),
        ("postgresql:///x", {"PGHOST": "db.example.org"}, "verify-full"),
        ("postgresql://db.example.org/x?sslmode=require", {}, "require"),
        ("postgresql://db.example.org/x", {"PGSSLMODE": "require"}, None),
        ("postgresql:///x", {}, None),
        ("postgresql://localhost/x", {}, None),
        ("postgresql://127.0.0.1/x", {}, None),
        ("postgresql://[::1]/x", {}, None),
        ("postgresql:///x?host=/var/run/postgresql", {}, None),
    ],
)
def test_tls_is_the_default_for_other_machines(
    url: str, environment: dict[str, str], sslmode: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert conninfo_to_dict(parse_address(url).conninfo).get("sslmode") == sslmode


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql://h/db?gallery=x", "is no address"),
        ("postgresql://h/db#pg_x", "begin with pg_"),
        ("postgresql://h/db#50%", "without %"),
        ("postgresql://h/db#\udcff", "not text in UTF-8"),
        ("postgresql://h/\udcff", "not text in UTF-8"),
        ("postgresql://h/db#" + "é" * 32, "63 bytes"),
    ],
)
def test_addresses_that_are_none(url: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        parse_address(url)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:@[::1]:5432/x#a@b",
        "postgresql://me:@/x?host=/tmp#a@b",
        "postgresql://h1:5432,h2:5433/x#a@b",
    ],
)
def test_addresses_without_a_password_are_taken(url: str) -> None:
    assert parse_address(url).name == "a@b"


@pytest.mark.parametrize(
    ("url", "says", "helps"),
    [
        ("postgresql://127.0.0.1:1/db", "Connection refused", "check that the server runs"),
        ("postgresql:///db?host=/absent", "No such file", "check that the server runs"),
        ("postgresql://localhost:99999/db", "99999", "check that the server runs"),
        ("postgresql://localhost:port/db", "resolve", "check that the server runs"),
        ("postgresql:///db?service=absent", "absent", "PGSERVICEFILE"),
    ],
)
def test_no_server(url: str, says: str, helps: str) -> None:
    line = refused("stats", url)
    assert says in line and helps in line and "lost" not in line


def test_searches_go_on_while_an_index_is_built(
    postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = galleries.entries(40)
    gallery = made(in_database(postgres.url)(), some, index="ivf")
    found: list[list[str]] = []

    def search(*_: object) -> None:
        with monkeypatch.context() as patched:
            patched.setenv("PGOPTIONS", "-c lock_timeout=1s")
            found.append(gallery.search(some.table.features[:1], top=1).keys(0))

    monkeypatch.setattr("reid.galleries.postgres.say_building", search)
    gallery.add(galleries.entries(60, first=100, seed=1))
    assert found == [["t0000"]] and verify(gallery)[0] == []


def test_a_database_and_a_gallery_that_are_not_there(postgres: Server) -> None:
    assert "createdb" in refused("stats", postgres.url.replace("/postgres?", "/absent?"))
    made(in_database(postgres.url)(), galleries.entries(2))
    line = refused("stats", f"{postgres.url}#absent")
    assert "no gallery 'absent'" in line and "reid gallery create" in line


def test_a_password_of_the_environment_a_file_and_a_wrong_one(
    guarded: SystemServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url = guarded.url("127.0.0.1")
    assert "PGPASSFILE" in refused("stats", url)
    monkeypatch.setenv("PGPASSWORD", "wrong horse")
    line = refused("stats", url)
    assert "password authentication failed" in line and "wrong horse" not in line
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    assert "no extension vector" in refused("stats", url)  # that far it came
    monkeypatch.delenv("PGPASSWORD")
    file = tmp_path / "passwords"
    file.write_text(f"127.0.0.1:*:*:reader:{PASSWORD}\n")
    file.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(file))
    assert "no extension vector" in refused("stats", url)


def test_a_database_without_the_extension(
    guarded: SystemServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    write_features(tmp_path / "f.parquet", table(3))
    line = refused("create", guarded.url("127.0.0.1"), str(tmp_path / "f.parquet"))
    assert "install pgvector" in line and "CREATE EXTENSION vector" in line


def test_a_connection_over_the_network_is_verified(
    guarded: SystemServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    monkeypatch.setenv("HOME", str(tmp_path))
    authority, address = f"sslrootcert={guarded.authority}", own_address()
    for url in (
        guarded.url(address),  # of an authority that nobody knows
        guarded.url(address, f"?{authority}"),  # for localhost, not for this address
    ):
        line = refused("stats", url)
        assert "?sslrootcert=FILE" in line and "no extension" not in line
    known = f"?{authority}&sslmode=verify-full"
    for url in (guarded.url("localhost", known), guarded.url(address, "?sslmode=require")):
        assert "no extension vector" in refused("stats", url)


def test_a_service_that_leads_elsewhere_without_tls_is_refused(
    guarded: SystemServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    services = tmp_path / "services.conf"
    services.write_text(
        f"[people]\nhost={own_address()}\nport={guarded.port}\nuser=reader\n"
        f"dbname=postgres\npassword={PASSWORD}\nsslmode=disable\n"
    )
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    assert "without TLS" in refused("stats", "postgresql:///?service=people")
    monkeypatch.setenv("PGSERVICE", "people")
    assert "without TLS" in refused("stats", "postgresql:///")
    monkeypatch.delenv("PGSERVICE")
    services.write_text(services.read_text().replace("disable", "require"))
    assert "no extension vector" in refused("stats", "postgresql:///?service=people")


def test_a_gallery_that_another_process_creates_just_now(postgres: Server) -> None:
    import psycopg

    with psycopg.connect(postgres.url) as other, ThreadPoolExecutor() as threads:
        other.execute("CREATE SCHEMA twice")
        creating = threads.submit(made, f"{postgres.url}#twice", galleries.entries(2))
        with psycopg.connect(postgres.url, autocommit=True) as watching:
            waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"
            while watching.execute(waits).fetchone() != (True,) and not creating.done():
                time.sleep(0.01)
        other.commit()
        with pytest.raises(UserError, match="has a schema 'twice' already"):
            creating.result()
        other.execute("DROP SCHEMA twice")


def test_vectors_are_stored_inline(postgres: Server) -> None:
    import psycopg

    made(f"{postgres.url}#inline", galleries.entries(20, 512))
    with psycopg.connect(postgres.url) as connected:
        found = connected.execute(
            "SELECT attstorage, pg_relation_size(reltoastrelid) FROM pg_attribute JOIN pg_class "
            "ON attrelid = pg_class.oid WHERE attrelid = 'inline.entries'::regclass "
            "AND attname = 'embedding'"
        ).fetchone()
    assert found == ("p", 0)  # plain, and nothing else was moved out to make room


def test_vectors_longer_than_an_index_takes(postgres: Server) -> None:
    with pytest.raises(UserError, match="at most 2,000 numbers"):
        made(in_database(postgres.url)(), galleries.entries(2, 2048), index="hnsw")


def test_a_changed_row_is_found(postgres: Server) -> None:
    import psycopg

    gallery = made(f"{postgres.url}#changed", galleries.entries(20))
    with psycopg.connect(postgres.url) as connected:
        connected.execute("UPDATE changed.entries SET person = 'x' WHERE key = 't0003'")
        connected.execute("DELETE FROM changed.entries WHERE key = 't0004'")
    wrong = gallery.faults()
    assert "19 entries, and 20 were stored" in wrong[0] and "'t0003'" in wrong[1]
    done = run("gallery", "verify", gallery.where)
    assert done.returncode == 1 and "wrong: " in done.stdout
