"""The gallery as a browser meets it: its pages, what it refuses, and what it never shows."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import uvicorn
from fastapi.testclient import TestClient
from PIL import Image
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from featurestore import schema
from featurestore.study_datasets import study_dataset
from featurestore.tables import DatasetTile, Slide, StudyEncoder, Tile
from featurestore.tile_classes import write_tile_classes
from orchestration.gallery.app import build_app
from orchestration.gallery.boundary import MAX_UPLOAD_BYTES
from orchestration.home import Home
from orchestration.run import run_study
from orchestration.study import read_study

STUDY = """
name = "look"
[tissue]
tiles = "tiles"
patients = "patients.csv"
folds = 3
[luad]
slides = { synthetic = 10, seed = 3, slide_px = 512, n_planted = 1, n_null = 1 }
tile_px = 112
max_tiles_per_slide = 3
[[encoders]]
name = "colour"
network = "colour.histogram"
input_px = 40
"""
Chromium = Callable[[str], Any]


@pytest.fixture(scope="module")
def home(module_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """Two colours of tiles and ten slides, embedded, with classes on one slide."""
    folder = tmp_path_factory.mktemp("look")
    rng = np.random.default_rng(5)
    rows = ["file,patient"]
    for name, tint in (("red", (200, 60, 90)), ("blue", (60, 60, 210))):
        (folder / "tiles" / name).mkdir(parents=True)
        for number in range(9):
            noise = rng.normal(0, 25, (40, 40, 3)) + rng.normal(0, 12, 3)
            pixels = np.clip(np.array(tint) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "tiles" / name / f"{number}.png")
            rows.append(f"{name}/{number}.png,P{number % 3}")
    (folder / "patients.csv").write_text("\n".join(rows))
    (folder / "look.toml").write_text(STUDY)
    schema.upgrade(module_engine)
    url = module_engine.url.render_as_string(hide_password=False)
    home = Home(folder / "home", database_url=url)
    run_study(
        home,
        read_study(folder / "look.toml"),
        groups=("sources", "models", "features"),
        progress=lambda *_args, **_options: None,
        on_launch=lambda _launch: None,
    )
    with Session(home.engine) as session, session.begin():
        slide_id = session.scalar(select(func.min(Slide.slide_id)))
        tiles = session.scalars(select(Tile.tile_id).where(Tile.slide_id == slide_id)).all()
        shares = np.tile(np.array([[0.9, 0.1]], np.float32), (len(tiles), 1))
        labels = ("STR", "TUM<script>")
        write_tile_classes(session, encoder_of(session), np.array(tiles), labels, shares)
    yield home
    home.close()


def encoder_of(session: Session, name: str = "colour") -> int:
    query = select(StudyEncoder.model_version_id).where(StudyEncoder.encoder == name)
    return session.scalars(query).one()


@pytest.fixture
def client(home: Home) -> Iterator[TestClient]:
    with TestClient(build_app(home), base_url="http://127.0.0.1:3100") as client:
        yield client


@pytest.fixture
def ids(home: Home) -> dict[str, int]:
    with Session(home.engine) as session:
        tissue = study_dataset(session, "look", "tissue_tiles").dataset_id
        slides = study_dataset(session, "look", "slide_tiles").dataset_id
        red = select(func.min(DatasetTile.tile_id)).where(DatasetTile.label == "red")
        return {
            "tissue": tissue,
            "slides": slides,
            "tile": session.scalar(red) or 0,
            "slide": session.scalar(select(func.min(Slide.slide_id))) or 0,
            "slide_tile": session.scalar(
                select(func.min(Tile.tile_id)).where(Tile.slide_id.is_not(None))
            )
            or 0,
            "encoder": encoder_of(session),
            "other": encoder_of(session, "mean-rgb"),
        }


def picture(side: int = 40) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), (200, 60, 90)).save(buffer, "PNG")
    return buffer.getvalue()


def test_from_the_data_sets_to_a_tile_and_its_neighbours(
    client: TestClient, ids: dict[str, int]
) -> None:
    first = client.get("/").text
    assert "18 tiles" in first
    assert "9 slides" in first  # one of the ten yields no tile
    page = client.get(f"/data-sets/{ids['tissue']}?label=red").text
    assert page.count('<img loading="lazy"') == 9
    assert ">blue<" in page  # the other class can be chosen
    tile = client.get(f"/tiles/{ids['tile']}?k=4&others_only=true&other={ids['other']}").text
    assert tile.count('class="same"') == 8  # four by each encoder, all of them red
    assert "colour" in tile
    assert "mean-rgb" in tile
    assert "exact" in tile
    image = client.get(f"/tiles/{ids['tile']}.jpg")
    assert image.headers["content-type"] == "image/jpeg"
    with Image.open(io.BytesIO(image.content)) as shown:
        assert shown.size == (40, 40)


def test_a_map_has_every_tile_with_label_patient_and_site(
    client: TestClient, ids: dict[str, int]
) -> None:
    page = client.get(f"/data-sets/{ids['slides']}/map").text
    assert 'data-colour="patient_id"' in page  # slides have no labels
    points = client.get(f"/data-sets/{ids['tissue']}/map.json?encoder={ids['encoder']}").json()
    assert sorted(points["label"]) == ["blue"] * 9 + ["red"] * 9
    assert set(points["patient_id"]) == {"P0", "P1", "P2"}
    assert points["site"] == [None] * 18
    assert len(set(zip(points["x"], points["y"], strict=True))) > 9


def test_a_slide_shows_where_a_class_is_probable(client: TestClient, ids: dict[str, int]) -> None:
    assert client.get(f"/data-sets/{ids['slides']}/slides").text.count("<tr><td>") == 9
    page = client.get(f"/slides/{ids['slide']}").text
    assert page.count("<rect ") == 3
    assert page.count('fill-opacity="0.68"') == 3  # STR, the likelier, 0.9 of it
    assert "TUM&lt;script&gt;" in page
    assert "TUM<script>" not in page
    image = client.get(f"/slides/{ids['slide']}.jpg")
    with Image.open(io.BytesIO(image.content)) as shown:
        assert shown.size == (512, 512)


def test_an_image_from_outside_finds_its_like(client: TestClient, ids: dict[str, int]) -> None:
    answer = client.post(
        "/search",
        data={"encoder": ids["encoder"], "other": ids["other"], "k": "5"},
        files={"image": ("mine.png", picture())},
    )
    assert answer.status_code == 200
    assert answer.text.count("<span>red</span>") == 10
    assert "data:image/jpeg;base64," in answer.text


def test_nothing_of_an_upload_is_kept(client: TestClient, home: Home, ids: dict[str, int]) -> None:
    before = sorted(home.folder.rglob("*"))
    client.post("/search", data={"encoder": ids["encoder"]}, files={"image": ("a", picture())})
    assert sorted(home.folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("content", "status", "message"),
    [
        (b"no image at all", 422, "the image"),
        (picture()[:-30], 422, "the image"),
        (b"", 422, "no image was sent"),
        (picture(4), 422, "4 × 4 px"),
        (b"\0" * (MAX_UPLOAD_BYTES + 1), 413, "too large: expected at most 20 MB"),
    ],
    ids=["text", "cut off", "empty", "tiny", "too many bytes"],
)
def test_what_is_no_tile_is_refused_in_words(
    client: TestClient, ids: dict[str, int], content: bytes, status: int, message: str
) -> None:
    answer = client.post(
        "/search", data={"encoder": ids["encoder"]}, files={"image": ("x.png", content)}
    )
    assert answer.status_code == status
    assert message in answer.text
    assert "upload-" not in answer.text  # no name of ours


def test_a_bomb_of_200_megapixels_is_refused_before_it_is_decoded(
    client: TestClient, ids: dict[str, int]
) -> None:
    buffer = io.BytesIO()
    Image.new("1", (20_000, 10_000)).save(buffer, "PNG")
    assert len(buffer.getvalue()) < 100_000
    answer = client.post(
        "/search", data={"encoder": ids["encoder"]}, files={"image": ("b.png", buffer.getvalue())}
    )
    assert answer.status_code == 422
    assert "cut it into tiles" in answer.text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/tiles/999999", 404),
        ("/tiles/0", 404),
        ("/tiles/99999999999999999999", 404),
        ("/tiles/x", 422),
        ("/tiles/../../etc/passwd", 404),
        ("/tiles/%2e%2e%2fetc%2fpasswd", 404),
        ("/static/../app.py", 404),
        ("/static/%2e%2e/app.py", 404),
        ("/data-sets/77", 404),
        ("/slides/77", 404),
        ("/slides/77.jpg", 404),
        ("/nowhere", 404),
        ("/tiles/{tile}?k=0", 422),
        ("/tiles/{tile}?k=100000", 422),
        ("/tiles/{tile}?encoder=99", 404),
        ("/tiles/{tile}?other=1%3B%20drop%20table%20tiles", 422),
        ("/data-sets/{tissue}?encoder=99", 404),
        ("/data-sets/{tissue}/map.json?encoder=99", 404),
        ("/data-sets/{tissue}/map?colour=path", 422),
    ],
)
def test_what_does_not_exist_is_said_on_a_page(
    client: TestClient, ids: dict[str, int], path: str, status: int
) -> None:
    answer = client.get(path.format(**ids))
    assert answer.status_code == status
    assert "That did not work" in answer.text
    assert "root:" not in answer.text


@pytest.mark.parametrize("text", ["'; DROP TABLE tiles; --", '" OR 1=1', "%", "\\"])
def test_sql_in_a_text_field_is_a_text(client: TestClient, ids: dict[str, int], text: str) -> None:
    found = client.get(f"/tiles/{ids['tile']}", params={"label": text})
    assert found.status_code == 200
    assert "0 nearest" in found.text
    shown = client.get(f"/data-sets/{ids['tissue']}", params={"label": text})
    assert "<p>0 of 18 tiles" in shown.text
    slide = client.get(f"/slides/{ids['slide']}", params={"label": text})
    assert slide.status_code == 200
    answer = client.post(
        "/search",
        data={"encoder": text, "label": text},
        files={"image": ("x.png", picture())},
    )
    assert answer.status_code == 422


def test_a_tile_whose_file_changed_or_is_gone_is_not_shown(
    client: TestClient, home: Home, ids: dict[str, int]
) -> None:
    file = next((home.folder.parent / "tiles" / "red").glob("8.png"))
    content = file.read_bytes()
    with Session(home.engine) as session:
        tile_id = session.scalar(select(DatasetTile.tile_id).where(DatasetTile.path == "red/8.png"))
    try:
        Image.new("RGB", (40, 40)).save(file)
        assert "another image" in client.get(f"/tiles/{tile_id}.jpg").text
        file.unlink()
        assert client.get(f"/tiles/{tile_id}.jpg").status_code == 404
    finally:
        file.write_bytes(content)
    assert client.get(f"/tiles/{tile_id}.jpg").status_code == 200


def test_only_this_machine_by_its_own_names(client: TestClient) -> None:
    assert client.get("/", headers={"Host": "localhost:3100"}).status_code == 200
    assert client.get("/", headers={"Host": "ffpe.example.org"}).status_code == 400
    headers = client.get("/").headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


@pytest.fixture(scope="module")
def address(home: Home) -> Iterator[tuple[str, int]]:
    """The gallery behind its own server."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = uvicorn.Config(build_app(home), host="127.0.0.1", port=port, log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield "127.0.0.1", port
    server.should_exit = True
    thread.join()


def test_an_upload_that_never_ends_is_cut_off(address: tuple[str, int]) -> None:
    head = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
    chunk = b"\0" * 1_000_000
    with socket.create_connection(address, timeout=30) as connection:
        connection.sendall(
            b"POST /search HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
            + f"{len(head):x}\r\n".encode() + head + b"\r\n"
        )  # fmt: skip
        for _ in range(MAX_UPLOAD_BYTES // len(chunk) + 1):
            connection.sendall(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
        answer = b""
        while b"</html>" not in answer:
            answer += connection.recv(100_000)
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"too large" in answer


def test_an_upload_that_stops_half_way_hurts_nobody(
    address: tuple[str, int], ids: dict[str, int]
) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(
            b"POST /search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 500000\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\n\r\n" + body + picture()
        )
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 200")


def test_in_a_browser_the_map_is_drawn_and_the_keyboard_opens_a_tile(
    address: tuple[str, int], ids: dict[str, int], chromium: Chromium
) -> None:
    page = chromium(f"http://{address[0]}:{address[1]}/data-sets/{ids['tissue']}/map")
    page.until("document.querySelectorAll('#legend li').length === 2")
    drawn = (
        "[...document.getElementById('map').getContext('2d')"
        ".getImageData(0, 0, 2000, 2000).data].some(value => value > 0)"
    )
    assert page.evaluate(drawn)
    page.evaluate("document.getElementById('map').focus()")
    page.press("ArrowRight")
    page.until("document.getElementById('point').textContent.startsWith('tile ')")
    before = page.evaluate("document.getElementById('point').textContent")
    page.press("ArrowLeft")
    page.press("ArrowUp")
    assert page.evaluate("document.getElementById('point').textContent") != before
    page.press("Enter")
    page.until("location.pathname.startsWith('/tiles/')")
    page.until("document.querySelectorAll('ol.tiles li').length > 0")
    # Narrow, as on a phone, nothing sticks out to the right.
    page.resize(360, 740)
    assert page.evaluate("document.documentElement.scrollWidth <= 360")


def test_every_control_has_a_name(
    address: tuple[str, int], ids: dict[str, int], chromium: Chromium
) -> None:
    for path in (f"/tiles/{ids['tile']}", f"/data-sets/{ids['tissue']}", f"/slides/{ids['slide']}"):
        page = chromium(f"http://{address[0]}:{address[1]}{path}")
        page.until("document.readyState === 'complete'")
        nameless = page.evaluate(
            "[...document.querySelectorAll('select, input:not([type=hidden]), button, img')]"
            ".filter(e => !(e.labels?.length || e.alt || e.textContent.trim())).length"
        )
        assert nameless == 0, path
