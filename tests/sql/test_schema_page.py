"""The page about the schema: it says what the database says, alone, and is well drawn."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from xml.etree import ElementTree

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, inspect, text
from typer.testing import CliRunner

from featurestore.catalogue import Column, Reference, Relation, read_catalogue
from featurestore.tables import Base
from orchestration.cli import app
from orchestration.schema_diagram import diagram
from orchestration.schema_page import schema_page

SVG = "{http://www.w3.org/2000/svg}"


def test_the_page_tells_every_table_view_column_and_unit(engine: Engine) -> None:
    page = schema_page(read_catalogue(engine))
    found = inspect(engine)
    views = set(found.get_view_names())
    assert views
    for name in {*Base.metadata.tables, *views}:
        _, _, section = page.partition(f'<section id="{name}">')
        section = section.partition("</section>")[0]
        plain = unescape(section)
        assert found.get_table_comment(name)["text"] in plain
        for column in found.get_columns(name):
            assert f"<code>{column['name']}</code>" in plain
            assert (column["comment"] or "") in plain
    assert "alembic_version" not in page
    assert re.search(r"embeddings_v\d", page) is None
    assert "partitioned by <code>LIST (model_version_id)</code>" in page


def test_the_page_needs_no_network_and_is_the_same_each_time(engine: Engine) -> None:
    page = schema_page(read_catalogue(engine))
    assert page == schema_page(read_catalogue(engine))
    urls = re.findall(r"(?:src|href)=\"([^\"]*)\"|url\(", page)
    assert urls
    assert all(url.startswith("#") for url in urls)
    targets = set(re.findall(r'id="([^"]+)"', page))
    assert {url.removeprefix("#") for url in urls} <= targets
    assert "<script" not in page


def test_the_page_says_what_the_database_says_now_and_nothing_of_it_is_markup(
    empty_engine: Engine,
) -> None:
    with empty_engine.begin() as connection:
        connection.execute(text("CREATE EXTENSION vector"))
        connection.execute(text('CREATE TABLE "a<b>&" ("x""y" int PRIMARY KEY)'))
        connection.execute(text('CREATE TABLE c (x int REFERENCES "a<b>&", v vector)'))
        connection.execute(text("""COMMENT ON COLUMN c.x IS '<script>alert("1")</script> µm'"""))
        connection.execute(text("CREATE FUNCTION f(n int) RETURNS int LANGUAGE sql RETURN n"))
        connection.execute(text("COMMENT ON FUNCTION f IS 'Gives n'"))
    catalogue = read_catalogue(empty_engine)
    assert [table.name for table in catalogue.tables] == ["a<b>&", "c"]
    assert [function.name for function in catalogue.functions] == ["f(n integer)"]
    page = schema_page(catalogue)
    assert "&lt;script&gt;" in page
    assert "<script" not in page
    assert "<b>" not in page
    ElementTree.fromstring(diagram(catalogue.tables))


def test_rules_and_references_are_told(engine: Engine) -> None:
    catalogue = read_catalogue(engine)
    tables = {table.name: table for table in catalogue.tables}
    rules = {rule.name for rule in tables["experiments"].rules}
    assert {"ck_experiments_splits_possible", "uq_experiments_current"} <= rules
    assert "embeddings_immutable" in {rule.name for rule in tables["embeddings"].rules}
    assert Reference(("tile_id",), "tiles") in tables["embeddings"].references
    views = {view.name: view for view in catalogue.views}
    assert views["split_scores"].reads == ("cv_scores", "experiment_encoders", "experiments")
    label = next(c for c in tables["dataset_tiles"].columns if c.name == "label")
    assert (label.nullable, label.is_key) == (True, False)


def boxes(svg: str) -> dict[str, tuple[float, float, float, float]]:
    root = ElementTree.fromstring(svg)
    found = {}
    for link in root.iter(f"{SVG}a"):
        rect = link.find(f"{SVG}rect")
        assert rect is not None
        x, y, w, h = (float(rect.attrib[name]) for name in ("x", "y", "width", "height"))
        found[link.attrib["href"].removeprefix("#")] = (x, y, x + w, y + h)
    return found


def relation(name: str, references: list[str]) -> Relation:
    columns = [Column("id", "int", False, "", True, ())]
    columns += [Column(f"{to}_id", "int", False, "", False, (to,)) for to in references]
    return Relation(
        name, "", False, None, tuple(columns), (),
        tuple(Reference((f"{to}_id",), to) for to in references), (),
    )  # fmt: skip


def test_the_diagram_of_the_store_shows_every_table_and_reference(engine: Engine) -> None:
    tables = read_catalogue(engine).tables
    svg = diagram(tables)
    drawn = boxes(svg)
    assert set(drawn) == set(Base.metadata.tables)
    for table in tables:
        for reference in table.references:
            if reference.referred != table.name:
                assert drawn[reference.referred][2] < drawn[table.name][0]
                assert f"to-{reference.referred}" in svg


@given(
    st.lists(st.lists(st.integers(0, 9), max_size=4, unique=True), min_size=0, max_size=10).map(
        lambda rows: [[to for to in row if to < len(rows)] for row in rows]
    )
)
def test_no_box_lies_on_another_whatever_refers_to_what(rows: list[list[int]]) -> None:
    # Circles and references to oneself included.
    tables = [relation(f"t{n}", [f"t{to}" for to in row]) for n, row in enumerate(rows)]
    svg = diagram(tables)
    drawn = list(boxes(svg).values())
    assert len(drawn) == len(rows)
    root = ElementTree.fromstring(svg)
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for n, (left, top, right, bottom) in enumerate(drawn):
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        for other in drawn[n + 1 :]:
            assert right < other[0] or other[2] < left or bottom < other[1] or other[3] < top


@pytest.fixture
def home_of_a_store(
    filled_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Engine:
    monkeypatch.setenv("FFPE_HOME", str(tmp_path / "home"))
    url = filled_engine.url.set(password="the-owner-s-own").render_as_string(hide_password=False)
    monkeypatch.setenv("FFPE_DATABASE_URL", url)
    monkeypatch.delenv("FFPE_READER_PASSWORD", raising=False)
    return filled_engine


def test_the_command_writes_the_page(home_of_a_store: Engine, tmp_path: Path) -> None:
    out = tmp_path / "schema.html"
    result = CliRunner().invoke(app, ["db", "docs", "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert out.read_text(encoding="utf-8") == schema_page(read_catalogue(home_of_a_store))
    assert CliRunner().invoke(app, ["db", "docs"]).stdout == out.read_text(encoding="utf-8")
    missing = CliRunner().invoke(app, ["db", "docs", "--out", str(tmp_path / "no" / "where")])
    assert missing.exit_code == 2
    assert "cannot be written" in re.sub(r"[\s│]+", " ", missing.output)


def test_the_command_makes_a_reader_and_tells_a_password_once(home_of_a_store: Engine) -> None:
    arguments = ["db", "grant-reader", "reader of pages"]
    try:
        first = CliRunner().invoke(app, arguments)
        assert first.exit_code == 0, first.output
        told = re.search(r"postgresql://reader%20of%20pages:([^@]+)@", first.stdout)
        assert told
        assert "the-owner-s-own" not in first.output
        assert len(told[1]) >= 32
        with psycopg.connect(first.stdout.strip()) as reader:
            assert reader.execute("SELECT current_user").fetchone() == ("reader of pages",)
        again = CliRunner().invoke(app, arguments)
        assert again.exit_code == 0, again.output
        assert again.stdout.startswith("postgresql://reader%20of%20pages@")
        assert "the-owner-s-own" not in again.output
        given_one = CliRunner(env={"FFPE_READER_PASSWORD": "of-my-own"}).invoke(app, arguments)
        assert given_one.exit_code == 0
        assert "of-my-own" not in given_one.output
        stored = "SELECT rolpassword LIKE 'SCRAM-SHA-256$%' FROM pg_authid WHERE rolname = :name"
        with home_of_a_store.connect() as connection:
            assert connection.scalar(text(stored), {"name": "reader of pages"})
    finally:
        with home_of_a_store.begin() as connection:
            connection.execute(text('DROP OWNED BY "reader of pages"'))
            connection.execute(text('DROP ROLE "reader of pages"'))
