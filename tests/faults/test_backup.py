"""Backup and restore: what comes back is the same to the last row, or nothing comes back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psycopg
import pytest
from PIL import Image
from sqlalchemy import URL, make_url, text
from sqlalchemy.orm import Session

from featurestore import schema
from featurestore.backup import MANIFEST, read_backup, write_backup
from featurestore.embeddings import ensure_partition
from featurestore.engine import connect
from featurestore.errors import FfpeError, InputError, StoreError
from featurestore.model_versions import content_sha256
from featurestore.postgres_programs import find_program
from featurestore.restoration import restore_backup
from featurestore.result_frames import comparisons_frame
from featurestore.table_digests import table_digests
from orchestration.home import Home
from orchestration.run import run_study
from orchestration.study import Study, read_study

STUDY = """
name = "kept"
[tissue]
tiles = "tiles"
folds = 3
repeats = 2
[[encoders]]
name = "colour"
network = "colour.mean_rgb"
input_px = 40
"""
# Everything that is not a row: what a restored database must have as well. Without brackets, of
# which Postgres writes fewer when it reads its own text again.
OBJECTS = """
SELECT pg_describe_object(classid, objid, 0), translate(def, '() ', '') FROM (
    SELECT 'pg_class'::regclass AS classid, indexrelid AS objid, pg_get_indexdef(indexrelid) AS def
      FROM pg_index WHERE indrelid::regclass::text !~ '^pg_'
     UNION ALL SELECT 'pg_trigger'::regclass, oid, pg_get_triggerdef(oid) FROM pg_trigger
     WHERE NOT tgisinternal
     UNION ALL SELECT 'pg_constraint'::regclass, oid, pg_get_constraintdef(oid)
      FROM pg_constraint WHERE connamespace::regnamespace::text IN ('public', 'dagster')
     UNION ALL SELECT 'pg_proc'::regclass, p.oid, pg_get_functiondef(p.oid) FROM pg_proc AS p
     WHERE pronamespace = 'public'::regnamespace AND NOT EXISTS
           (SELECT FROM pg_depend WHERE objid = p.oid AND deptype = 'e')
     UNION ALL SELECT 'pg_class'::regclass, oid, pg_get_viewdef(oid) FROM pg_class
     WHERE relkind = 'v' AND relnamespace = 'public'::regnamespace
     UNION ALL SELECT 'pg_class'::regclass, objoid, description FROM pg_description
     WHERE classoid = 'pg_class'::regclass AND objoid > 16384
) AS described ORDER BY 1, 2
"""
NEXT = "SELECT schemaname, sequencename, last_value FROM pg_sequences ORDER BY 1, 2"


@pytest.fixture
def databases(postgres_url: str) -> Iterator[Callable[[str], URL]]:
    """Make empty databases, by name; dropped after the test."""
    admin = connect(postgres_url)
    made: list[str] = []

    def make(name: str) -> URL:
        with admin.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text(f"CREATE DATABASE backup_{name}"))
        made.append(f"backup_{name}")
        return admin.url.set(database=f"backup_{name}")

    yield make
    with admin.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for name in made:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture
def store(databases: Callable[[str], URL]) -> URL:
    """A store with some rows, a partition, and a schema beside as Dagster's is."""
    url = databases("source")
    engine = connect(url)
    schema.upgrade(engine)
    with Session(engine) as session, session.begin():
        session.execute(
            text(
                "INSERT INTO tiles (sha256, width_px, height_px) SELECT"
                " lpad(to_hex(n), 64, '0'), 224, 224 FROM generate_series(1, 500) AS n"
            )
        )
        session.execute(
            text(
                "INSERT INTO model_versions (sha256, network, network_options, weights_sha256,"
                " weights_source, input_px, mean, std, interpolation, pooling, precision, dim,"
                " licence, trained_on) VALUES (repeat('a', 64), 'n', '{}', repeat('b', 64), 'w',"
                " 224, '{0.5,0.1,0.3}', '{1,1,1}', 'bicubic', 'avg', 'float32', 3, 'none', 'x')"
            )
        )
        ensure_partition(session, 1, 3)
        session.execute(
            text(
                "INSERT INTO embeddings SELECT 1, tile_id,"
                " ARRAY[tile_id, 0.1, 1.0 / tile_id]::real[]::halfvec FROM tiles"
            )
        )
        session.execute(text("CREATE SCHEMA dagster"))
        session.execute(text("CREATE TABLE dagster.runs (run_id text, body json, at timestamp)"))
        session.execute(
            text("INSERT INTO dagster.runs VALUES ('r1', '{\"a\":  1}', now()), (NULL, NULL, NULL)")
        )
    engine.dispose()
    return url


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "aa.safetensors").write_bytes(os.urandom(100_000))
    return folder


@pytest.fixture
def backup(store: URL, weights: Path, tmp_path: Path) -> Path:
    write_backup(store, tmp_path / "backup", files=weights)
    return tmp_path / "backup"


def everything(url: URL, query: str | None = None) -> Any:
    plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain) as connection:
        return table_digests(connection) if query is None else connection.execute(query).fetchall()


def is_empty(url: URL) -> bool:
    return everything(url) == {} and everything(url, NEXT) == []


def test_everything_comes_back(
    store: URL, backup: Path, databases: Callable[[str], URL], tmp_path: Path
) -> None:
    target = databases("target")
    restore_backup(backup, target, files=tmp_path / "restored")

    digests = everything(target)
    assert digests == everything(store)
    assert digests["public.tiles"].n_rows == digests["public.embeddings_v1"].n_rows == 500
    assert digests["dagster.runs"].n_rows == 2
    assert everything(target, OBJECTS) == everything(store, OBJECTS)
    assert everything(target, NEXT) == everything(store, NEXT)
    assert {file.name: file.read_bytes() for file in (tmp_path / "restored").iterdir()} == {
        file.name: file.read_bytes() for file in (tmp_path / "weights").iterdir()
    }
    # It is a store like any other: its rules hold, and its numbers go on.
    engine = connect(target)
    schema.require_current(engine)
    with engine.begin() as connection:
        tile = "INSERT INTO tiles (sha256, width_px, height_px) VALUES (:s, 9, 9) RETURNING tile_id"
        assert connection.scalar(text(tile), {"s": "f" * 64}) == 501
    with pytest.raises(Exception, match="never change"), engine.begin() as connection:
        connection.execute(text("UPDATE embeddings SET embedding = embedding"))
    engine.dispose()


def test_a_digest_tells_any_change_and_no_order(databases: Callable[[str], URL]) -> None:
    url = databases("digests")
    engine = connect(url)
    seen = []
    for rows in (
        "(1, 'ab', NULL), (2, 'c', '1')", "(2, 'c', '1'), (1, 'ab', NULL)",
        "(1, 'ab', NULL), (2, 'c', '1'), (2, 'c', '1')", "(1, 'a', 'b'), (2, 'c', '1')",
        "(1, 'ab', ''), (2, 'c', '1')", "(1, 'ab', NULL)",
    ):  # fmt: skip
        with engine.begin() as connection:
            connection.execute(text("DROP TABLE IF EXISTS t"))
            connection.execute(text("CREATE TABLE t (n int, a text, b text)"))
            connection.execute(text(f"INSERT INTO t VALUES {rows}"))
        seen.append(everything(url)["public.t"])
    engine.dispose()
    assert seen[0] == seen[1]
    assert len({digest.sha256 for digest in seen}) == len(seen) - 1


def cut_off(backup: Path) -> None:
    dump = backup / "database.dump"
    dump.write_bytes(dump.read_bytes()[:-100])


def flipped(backup: Path) -> None:
    dump = bytearray((backup / "database.dump").read_bytes())
    dump[len(dump) // 2] ^= 1
    (backup / "database.dump").write_bytes(dump)


def without_weights(backup: Path) -> None:
    (backup / "files" / "aa.safetensors").unlink()


def other_weights(backup: Path) -> None:
    (backup / "files" / "aa.safetensors").write_bytes(b"other")


def other_manifest(backup: Path) -> None:
    told = (backup / MANIFEST).read_text()
    (backup / MANIFEST).write_text(told.replace('"n_rows": 500', '"n_rows": 501'))


def no_manifest(backup: Path) -> None:
    (backup / MANIFEST).unlink()


def half_a_manifest(backup: Path) -> None:
    told = (backup / MANIFEST).read_bytes()
    (backup / MANIFEST).write_bytes(told[: len(told) // 2])


def signed(backup: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Another manifest that fits its own checksum."""
    content = json.loads((backup / MANIFEST).read_text())["content"]
    change(content)
    told = {"sha256": content_sha256(content), "content": content}
    (backup / MANIFEST).write_text(json.dumps(told))


def of_the_future(backup: Path) -> None:
    signed(backup, lambda content: content.update(revision="9999"))


def leads_away(backup: Path) -> None:
    (backup.parent / "secret").write_text("x")
    (backup / "files" / "link").symlink_to(backup.parent / "secret")
    fits = read_sha256(backup.parent / "secret")
    signed(backup, lambda content: content["files"].update({"files/../../secret": fits}))


@pytest.mark.parametrize(
    "damage",
    [cut_off, flipped, without_weights, other_weights, other_manifest, no_manifest,
     half_a_manifest, of_the_future, leads_away],
)  # fmt: skip
def test_a_damaged_backup_is_refused_before_anything_is_restored(
    backup: Path, databases: Callable[[str], URL], tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    damage(backup)
    target = databases("target")
    with pytest.raises(InputError):
        restore_backup(backup, target, files=tmp_path / "restored")
    assert is_empty(target)
    assert not (tmp_path / "restored").exists()


def test_what_is_not_what_the_manifest_says_is_undone(
    backup: Path, databases: Callable[[str], URL], tmp_path: Path
) -> None:
    """The comparison is the last step of the transaction: a wrong row undoes everything."""
    signed(backup, lambda content: content["tables"]["public.tiles"].update(sha256="0" * 64))
    target = databases("target")
    with pytest.raises(StoreError, match=r"content of public\.tiles is not what the manifest says"):
        restore_backup(backup, target, files=tmp_path / "restored")
    assert is_empty(target)
    assert list((tmp_path / "restored").iterdir()) == []


def test_a_dump_that_breaks_off_is_undone(
    backup: Path, databases: Callable[[str], URL], tmp_path: Path
) -> None:
    cut_off(backup)
    dump = backup / "database.dump"
    fits = read_sha256(dump)
    signed(backup, lambda content: content["files"].update({"database.dump": fits}))
    target = databases("target")
    with pytest.raises(StoreError, match="the database is as it was"):
        restore_backup(backup, target, files=tmp_path / "restored")
    assert is_empty(target)


def test_a_killed_restoration_leaves_nothing(
    store: URL, weights: Path, databases: Callable[[str], URL], tmp_path: Path
) -> None:
    """Killed while rows go in: psql, which lives on, must not take the end for the end."""
    engine = connect(store)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE large AS SELECT n, sha256(n::text::bytea) AS h"
                                " FROM generate_series(1, 300000) AS n"))  # fmt: skip
    engine.dispose()
    write_backup(store, tmp_path / "backup", files=weights)
    target = databases("target")
    told = [str(tmp_path / "backup"), target.render_as_string(hide_password=False)]
    code = (
        "import sys; from pathlib import Path; from sqlalchemy import make_url;"
        "from featurestore.restoration import restore_backup;"
        "restore_backup(Path(sys.argv[1]), make_url(sys.argv[2]), files=Path(sys.argv[1] + '-w'))"
    )
    sessions = "SELECT query FROM pg_stat_activity WHERE datname = 'backup_target'"
    process = subprocess.Popen([sys.executable, "-c", code, *told])
    while not any("COPY public.large" in row[0] for row in everything(store, sessions)):
        assert process.poll() is None, "it was over before it could be killed"
    process.kill()
    assert process.wait() < 0
    while everything(store, sessions):
        time.sleep(0.05)
    assert is_empty(target)


def read_sha256(file: Path) -> str:
    from hashlib import sha256

    return sha256(file.read_bytes()).hexdigest()


def test_only_an_empty_database_is_restored_into(store: URL, backup: Path, tmp_path: Path) -> None:
    before = everything(store)
    with pytest.raises(StoreError, match="not empty: it has .*another FFPE_HOME"):
        restore_backup(backup, store, files=tmp_path / "restored")
    assert everything(store) == before


def test_a_folder_that_is_there_is_left_alone(
    store: URL, backup: Path, weights: Path, tmp_path: Path
) -> None:
    before = (backup / MANIFEST).read_bytes()
    with pytest.raises(InputError, match="is there already"):
        write_backup(store, backup, files=weights)
    assert (backup / MANIFEST).read_bytes() == before


def test_a_backup_while_rows_are_written_is_of_one_moment(
    store: URL, databases: Callable[[str], URL], weights: Path, tmp_path: Path
) -> None:
    """Each transaction writes a patient and a gene: a backup never holds one without the other."""
    done = threading.Event()
    n_written = 0

    def write() -> None:
        nonlocal n_written
        engine = connect(store)
        while not done.is_set():
            with engine.begin() as connection:
                row = {"name": f"p{n_written}"}
                connection.execute(text("INSERT INTO patients (patient_id) VALUES (:name)"), row)
                connection.execute(text("INSERT INTO genes (symbol) VALUES (:name)"), row)
            n_written += 1
        engine.dispose()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        while n_written < 10:
            assert writer.is_alive()
        n_before = n_written
        told = write_backup(store, tmp_path / "backup", files=weights)
    finally:
        done.set()
        writer.join()
    n_rows = {name: told.tables[f"public.{name}"].n_rows for name in ("patients", "genes")}
    assert n_before <= n_rows["patients"] == n_rows["genes"] < n_written
    target = databases("target")
    restore_backup(tmp_path / "backup", target, files=tmp_path / "restored")
    assert everything(target) == dict(told.tables)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip("a small disk can not be mounted here: that takes root's rights")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("fills", ["database", "weights"])
def test_a_full_disk_leaves_no_backup(
    store: URL, weights: Path, small_disk: Path, fills: str
) -> None:
    if fills == "database":
        engine = connect(store)
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE large AS SELECT sha256(n::text::bytea) AS h,"
                                    " sha256((-n)::text::bytea) AS i"
                                    " FROM generate_series(1, 40000) AS n"))  # fmt: skip
        engine.dispose()
    else:
        (weights / "bb.safetensors").write_bytes(os.urandom(2 << 20))
    with pytest.raises(StoreError, match="No space left on device"):
        write_backup(store, small_disk / "backup", files=weights)
    assert list(small_disk.iterdir()) == []


def test_a_server_newer_than_every_program() -> None:
    newer: Any = SimpleNamespace(info=SimpleNamespace(server_version=990_000))
    with pytest.raises(StoreError, match="pg_dump 99 or newer.*postgresql-client-99"):
        find_program("pg_dump", newer)


def ffpe(home: Path, *arguments: str | Path) -> str:
    """What a command says; it must end well."""
    done = subprocess.run(
        [sys.executable, "-m", "orchestration", *map(str, arguments)],
        env=os.environ | {"FFPE_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def shown(home: Home, study: Study) -> list[dict[str, Any]]:
    with Session(home.engine) as session:
        return comparisons_frame(session, study.name).to_dict("records")


@pytest.mark.slow
def test_a_study_goes_on_in_another_home(tmp_path: Path, server_folder: Path) -> None:
    """From one server into another: the results are there, and nothing is computed again."""
    rng = np.random.default_rng(1)
    for label in "ab":
        (tmp_path / "tiles" / label).mkdir(parents=True)
        for number in range(6):
            pixels = rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "tiles" / label / f"{number}.png")
    (tmp_path / "study.toml").write_text(STUDY)
    study = read_study(tmp_path / "study.toml")
    old, new = Home(server_folder / "old"), Home(server_folder / "new")
    told: dict[str, Any] = {"progress": lambda *_, **__: None, "on_launch": lambda _: None}
    try:
        assert run_study(old, study, **told) > 0
        (old.weights / "aa.safetensors").write_bytes(b"weights")
        assert "every digest compared" in ffpe(old.folder, "db", "backup", tmp_path / "backup")
        assert "dagster.runs" in read_backup(tmp_path / "backup").tables
        ffpe(new.folder, "db", "restore", tmp_path / "backup")

        assert everything(make_url(old.url)) == everything(make_url(new.url))
        assert everything(make_url(old.url), OBJECTS) == everything(make_url(new.url), OBJECTS)
        assert (new.weights / "aa.safetensors").read_bytes() == b"weights"
        assert len(shown(old, study)) > 0
        assert shown(new, study) == shown(old, study)
        # Everything is up to date; the figure, which is no part of a backup, is drawn again.
        assert run_study(new, study, **told) <= 1
        assert run_study(new, study, **told) == 0
    finally:
        old.close()
        new.close()


def test_errors_are_the_packages_own(tmp_path: Path, weights: Path) -> None:
    nowhere = make_url("postgresql+psycopg://x@127.0.0.1:1/none?connect_timeout=2")
    with pytest.raises(FfpeError, match="no database answers"):
        write_backup(nowhere, tmp_path / "backup", files=weights)
    assert not (tmp_path / "backup").exists()
