"""A Ray cluster, where ``FFPE_RAY_ADDRESS`` names one: how it is joined, and splits that use it.

Shards on it are in :mod:`orchestration.ray_shards`.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from featurestore.errors import FfpeError

ADDRESS_VARIABLE = "FFPE_RAY_ADDRESS"


class ClusterError(FfpeError):
    """The cluster that the environment names cannot be used."""


def has_cluster() -> bool:
    """Whether the environment names a cluster."""
    return bool(os.environ.get(ADDRESS_VARIABLE))


@contextmanager
def splits_on_cluster() -> Iterator[None]:
    """Let cross-validation run on the cluster, if there is one, for the length of a block."""
    if not has_cluster():
        yield
        return
    join_cluster()
    import joblib

    import_module("ray.util.joblib").register_ray()
    # Workers that ask for no core may all be put on one machine.
    with joblib.parallel_config(backend="ray", ray_remote_args={"num_cpus": 1}):
        yield


def join_cluster() -> Any:
    """Ray, connected to the cluster that the environment names.

    Raises
    ------
    ClusterError
        If there is no Ray here, or no cluster at the address.
    """
    # Ray tells its makers of its use unless asked not to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray: Any = import_module("ray")  # not among what ffpe needs
    except ImportError as error:
        raise ClusterError(
            f"{ADDRESS_VARIABLE} is set, but Ray is not installed: pip install 'ffpe[ray]', or "
            "unset it to work on this machine alone"
        ) from error
    if not ray.is_initialized():
        address = os.environ[ADDRESS_VARIABLE]
        try:
            _knock(address)
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        except (OSError, RuntimeError, ValueError) as error:
            raise ClusterError(
                f"no Ray cluster can be joined at {ADDRESS_VARIABLE}={address!r}: {error}; start "
                "one with `ray start --head`, or unset it to work on this machine alone"
            ) from error
    return ray


def _knock(address: str) -> None:
    """Find out at once that nobody is there, which Ray takes minutes for."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=10).close()
