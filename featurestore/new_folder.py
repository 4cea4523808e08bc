"""Folders and files of results that appear whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from featurestore.errors import InputError


@contextmanager
def new_folder(folder: Path, *, marker: str, what: str, force: bool) -> Iterator[Path]:
    """A folder under another name that takes its own when the block ends well.

    Parameters
    ----------
    folder : Path
    marker : str
        File by which such a folder is known; nothing without it is ever replaced.
    what : str
        What is written, for messages: export, report.
    force : bool
        Whether one written earlier may be replaced.

    Raises
    ------
    InputError
        If the folder is there already.
    """
    folder = folder.absolute()
    if folder.exists() and not (force and (folder / marker).is_file()):
        why = "is there already" if not force else f"holds no {marker}, so it is no {what}"
        to_do = "remove it yourself" if force else "choose another folder, or give --force"
        raise InputError(f"{folder} {why}; {to_do}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        made.chmod(0o755)
        yield made
        if folder.exists():
            # Two names change one after the other; what was there is gone only at the end.
            before = made.with_name(f"{made.name}.before")
            folder.rename(before)
            made.rename(folder)
            shutil.rmtree(before)
        else:
            made.rename(folder)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise


def write_whole(path: Path, content: bytes) -> None:
    """Write a file; until it is whole, what was there before stays."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as new:
        made = Path(new.name)
        try:
            new.write(content)
            new.flush()
            made.chmod(0o644)
            made.replace(path)
        except BaseException:
            made.unlink(missing_ok=True)
            raise
