"""A home of its own for every test, on a database of its own, with small studies to run."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import Engine

from featurestore import schema
from featurestore.sources.synthetic import write_tissue
from orchestration.home import Home
from orchestration.study import Study, read_study

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

STUDY = """
name = "{name}"
seed = 7

[finetune]
tiles = "train"
epochs = [1, 1]
batch_size = 16

[tissue]
tiles = "test"
folds = 3
repeats = {repeats}

[[encoders]]
name = "imgnet-2048"
input_px = 72

[[encoders]]
name = "ftx-2048"
finetuned_from = "imgnet-2048"
"""


@pytest.fixture
def with_weights(xception_weights: Path) -> Callable[[Home], Home]:
    """Give a home the ImageNet weights, as if it had fetched them before."""

    def give(home: Home) -> Home:
        for file in xception_weights.glob("*.safetensors"):
            shutil.copy(file, home.weights)
        return home

    return give


@pytest.fixture
def home(
    tmp_path: Path, empty_engine: Engine, with_weights: Callable[[Home], Home]
) -> Iterator[Home]:
    """An installation on a database of its own."""
    schema.upgrade(empty_engine)
    url = empty_engine.url.render_as_string(hide_password=False)
    home = with_weights(Home(tmp_path / "home", database_url=url))
    yield home
    home.close()


@pytest.fixture(scope="session")
def small_tissue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders ``train`` and ``test`` of small synthetic tiles of nine classes."""
    folder = tmp_path_factory.mktemp("tissue")
    write_tissue(folder / "train", n_per_class=6, seed=1, tile_px=72)
    write_tissue(folder / "test", n_per_class=6, seed=2, tile_px=72)
    return folder


@pytest.fixture
def make_study(small_tissue: Path, tmp_path: Path) -> Callable[..., Study]:
    """Write a study on a folder of tissue (the small one, unless another is given); read it."""

    def make(name: str = "small", *, repeats: int = 2, tissue: Path = small_tissue) -> Study:
        text = STUDY.format(name=name, repeats=repeats)
        for part in ("train", "test"):
            text = text.replace(f'tiles = "{part}"', f'tiles = "{tissue / part}"')
        path = tmp_path / f"{name}.toml"
        path.write_text(text)
        return read_study(path)

    return make


@pytest.fixture
def add_class() -> Callable[[Path, str, int, int], None]:
    """Write a class folder of noise: folder, class, number of tiles, seed."""
    return one_class


def one_class(folder: Path, name: str, n_tiles: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    (folder / name).mkdir(parents=True, exist_ok=True)
    for number in range(n_tiles):
        pixels = rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name / f"{number}.png")


COLOUR_STUDY = """
name = "colour"
[tissue]
tiles = "tiles"
folds = 3
repeats = 2
[[encoders]]
name = "imgnet-2048"
input_px = 40
"""


@pytest.fixture
def small_folder(tmp_path: Path) -> Path:
    """Two classes of noise and a study on them."""
    one_class(tmp_path / "tiles", "a", 6, 1)
    one_class(tmp_path / "tiles", "b", 6, 2)
    (tmp_path / "study.toml").write_text(COLOUR_STUDY)
    return tmp_path


class Page:
    """A page in a headless browser, spoken to in its own protocol."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._number = 0

    def send(self, method: str, **parameters: object) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        self._socket.send(json.dumps(message))
        while True:
            answer: dict[str, Any] = json.loads(self._socket.recv(timeout=30))
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def evaluate(self, script: str) -> Any:
        found = self.send("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, script: str, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while not self.evaluate(script):
            assert time.monotonic() < deadline, f"never: {script}"
            time.sleep(0.1)

    def press(self, key: str) -> None:
        for kind in ("rawKeyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    def resize(self, width: int, height: int) -> None:
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=True,
        )  # fmt: skip


@pytest.fixture(scope="session")
def chromium() -> Iterator[Callable[[str], Page]]:
    """Open a page in headless Chromium; skips where there is none."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("there is no Chromium on this machine (Debian's package is `chromium`)")
    with TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]
        browser = subprocess.Popen(
            [program, *options, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        told = Path(profile) / "DevToolsActivePort"
        deadline = time.monotonic() + 60
        while not told.exists() or not told.read_text():
            assert time.monotonic() < deadline, "Chromium did not start"
            time.sleep(0.1)
        port = told.read_text().split()[0]

        def visit(url: str) -> Page:
            from websockets.sync.client import connect

            ask = urllib.request.Request(f"http://127.0.0.1:{port}/json/new?{url}", method="PUT")
            with urllib.request.urlopen(ask, timeout=30) as answer:
                found = json.load(answer)["webSocketDebuggerUrl"]
            return Page(pages.enter_context(connect(found, max_size=None)))

        with ExitStack() as pages:
            yield visit
        browser.terminate()
        browser.wait(timeout=30)
