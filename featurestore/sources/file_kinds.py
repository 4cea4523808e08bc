"""Owns what stands at a path: a regular file, a folder, or nothing that anybody should open.

Unlike :meth:`pathlib.Path.is_file` nothing here raises: what may not be looked at is neither.
"""

from __future__ import annotations

import os
from pathlib import Path


def is_file(path: Path) -> bool:
    """Whether it is a regular file, or a link to one: no pipe, no device, no folder."""
    return os.path.isfile(path)  # noqa: PTH113


def is_folder(path: Path) -> bool:
    """Whether it is a folder, or a link to one."""
    return os.path.isdir(path)  # noqa: PTH112


def is_text(name: str | Path) -> bool:
    """Whether a name is UTF-8, so that it can be stored."""
    try:
        str(name).encode()
    except UnicodeEncodeError:
        return False
    return True
