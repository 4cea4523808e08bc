"""What stands where a file should: pipes, devices, folders, links, nothing, and forbidden ones."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

READERS = ("image", "slide", "expression", "maf", "clinical", "genes", "features", "study")


def pipe(path: Path) -> None:
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.mkdir()


def empty(path: Path) -> None:
    path.touch()


def nowhere(path: Path) -> None:
    path.symlink_to("gone")


def round_and_round(path: Path) -> None:
    path.symlink_to(path.name)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def null(path: Path) -> None:
    path.symlink_to("/dev/null")


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        os.chdir(path.parent)  # the name of a socket is short
        made.bind(path.name)


def absent(path: Path) -> None:
    assert not path.exists()


def memory(path: Path) -> None:
    path.symlink_to("/proc/self/mem")


MADE = (pipe, folder, empty, nowhere, round_and_round, endless, null, listening, absent, memory)


def test_the_corpus_is_as_large_as_promised(n_inputs: dict[str, int]) -> None:
    tests = {
        name
        for file in Path(__file__).parent.glob("test_fuzz_*.py")
        for name in re.findall(r"def (test_\w+)\(\s*fuzz\b", file.read_text())
    }
    assert tests == n_inputs.keys()
    assert sum(n_inputs.values()) >= 10_000


@pytest.fixture(autouse=True)
def same_folder() -> Iterator[None]:
    before = Path.cwd()
    yield
    os.chdir(before)


@pytest.mark.parametrize("make", MADE)
def test_what_is_no_file_is_refused_and_never_waited_for(
    judge, worker, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    path = tmp_path / "TCGA-05-4244-01Z.svs"
    make(path)
    for reader in READERS:
        answer = worker.ask(reader=reader, damages=None, read=str(path), as_nobody=False)
        assert judge(answer) == "refused", (reader, answer)
        assert answer["bytes"] < 50 << 20, (reader, answer)


@pytest.mark.parametrize("make", MADE)
def test_what_is_no_file_among_files(
    judge, worker, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    """In a folder: it is left out by name, or is nothing that anybody could take for a file."""
    for name in ("tiles/a/x.png", "slides/TCGA-05-4244-01Z.svs", "mafs/x.maf", "gdc/x.tsv"):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        make(path)
    for reader, name in (("tiles", "tiles"), ("slide", "slides"), ("maf", "mafs"), ("gdc", "gdc")):
        answer = worker.ask(reader=reader, damages=None, read=str(tmp_path / name), as_nobody=False)
        assert judge(answer) == "refused", (reader, answer)


@pytest.mark.parametrize("make", MADE)
def test_patients_and_sheets_that_are_no_files(
    judge, worker, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.png").write_bytes(b"no image")
    make(tmp_path / "patients.csv")
    answer = worker.ask(reader="tiles", damages=None, read=str(tmp_path), as_nobody=False)
    assert judge(answer) == "refused", answer


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A folder that other users reach, unlike pytest's own."""
    if os.geteuid() != 0:
        pytest.skip("to read as another user takes root's rights")
    made = Path(tempfile.mkdtemp(prefix="ffpe-fuzz-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.mark.parametrize("mode", [0o000, 0o744])
def test_what_may_not_be_read_is_said_so(judge, worker, open_to_all: Path, mode: int) -> None:
    """A file without rights, and a folder that can be listed but not entered."""
    file = open_to_all / "TCGA-05-4244-01Z.svs"
    shut = open_to_all / "shut"
    for path in (file, shut / "a" / "x.png", shut / "TCGA-05-4244-01Z.svs", shut / "x.maf"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"something")
    file.chmod(0o000)
    shut.chmod(mode)
    for reader in READERS:
        answer = worker.ask(reader=reader, damages=None, read=str(file), as_nobody=True)
        assert judge(answer) == "refused", (reader, answer)
    for reader in (*READERS, "tiles", "gdc"):
        answer = worker.ask(reader=reader, damages=None, read=str(shut), as_nobody=True)
        assert judge(answer) == "refused", (reader, answer)
        for name in ("x.maf", "TCGA-05-4244-01Z.svs"):
            path = str(shut / name)
            answer = worker.ask(reader=reader, damages=None, read=path, as_nobody=True)
            assert judge(answer) == "refused", (reader, answer)


def test_names_that_are_no_text(judge, worker, tmp_path: Path) -> None:
    """A name that is not UTF-8 cannot be stored: it is left out under one that can."""
    for name in (b"slides/TCGA-05-4244-\xff.svs", b"mafs/\xff.maf", b"gdc/\xff.tsv",
                 b"tiles/a/\xff.png", b"tiles/\xff/x.png"):  # fmt: skip
        path = os.fsencode(tmp_path) + b"/" + name
        os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
        with open(path, "wb") as stream:  # noqa: PTH123
            stream.write(b"something")
    for reader, name in (("tiles", "tiles"), ("slide", "slides"), ("maf", "mafs"), ("gdc", "gdc")):
        answer = worker.ask(reader=reader, damages=None, read=str(tmp_path / name), as_nobody=False)
        assert judge(answer) == "refused", (reader, answer)


@pytest.fixture(scope="module")
def gzip_bombs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A quarter of a gigabyte in a megabyte, of one line, of short lines, and of no text."""
    folder = tmp_path_factory.mktemp("bombs")
    for number, content in enumerate((b"A", b"1\t1\n", b"\0", b"gene,TCGA-05-4244\n")):
        with gzip.open(folder / f"{number}.gz", "wb", compresslevel=1) as packed:
            packed.write(b"gene\tTCGA-05-4244\n")
            for _ in range(16):
                packed.write(content * ((1 << 24) // len(content)))
    return sorted(folder.iterdir())


@pytest.mark.parametrize("reader", ["expression", "maf", "clinical", "genes"])
def test_bombs_of_gzip(judge, worker, gzip_bombs: list[Path], reader: str) -> None:
    """Refused with a small part of it unpacked."""
    for file in gzip_bombs:
        answer = worker.ask(reader=reader, damages=None, read=str(file), as_nobody=False)
        assert judge(answer) == "refused", (file, answer)
