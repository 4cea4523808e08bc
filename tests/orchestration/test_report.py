"""The report of a study: it says what the database says, alone, and nothing gets out of place."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sqlalchemy import Engine, select, update
from sqlalchemy.orm import Session
from typer.testing import CliRunner

from featurestore import results, schema, versions
from featurestore.datasets import labelled_tiles, write_dataset
from featurestore.embeddings import write_embeddings
from featurestore.errors import InputError, Reject, StoreError, StudyError
from featurestore.gene_panels import Panel, PanelTile, write_panels
from featurestore.gene_results import (
    BETTER_COLUMNS,
    GenePredictions,
    write_better_counts,
    write_gene_predictions,
)
from featurestore.guards import GuardFinding, write_findings
from featurestore.ledger import record_rejects
from featurestore.model_versions import ModelVersion
from featurestore.result_frames import comparisons_frame
from featurestore.sources.tile_folders import TileFile, TileFolder
from featurestore.study_datasets import point_dataset
from featurestore.tables import Experiment, Tile
from featurestore.tile_maps import MapSettings, write_map
from orchestration.cli import app
from orchestration.cli_report import study_name
from orchestration.home import Home
from orchestration.instance import open_instance
from orchestration.report import MANIFEST, build_report, write_report
from orchestration.report.numbers import difference, p_value, score
from orchestration.report.published import REFERENCE
from orchestration.report.sections import Report
from orchestration.report.tables import latex_text, table_csv, table_latex

STUDY = "paper"
Output = tuple[str, dict[str, bytes]]
ENCODERS = ("imgnet-2048", "ftx-2048")
GENES = ("TP53", "STK11", "KRAS", "A_1 & <b>{x}")
N_REPEATS, N_FOLDS = 4, 3
PATIENTS = tuple(f"P{number:02}" for number in range(12))
HOSTILE = "STR<script>alert(1)</script>"


@pytest.fixture
def store(session: Session) -> Session:
    """A study of tissue and genes, in a session whose every change is undone."""
    fill(session)
    return session


@pytest.fixture(scope="module")
def filled(module_engine: Engine) -> Engine:
    schema.upgrade(module_engine)
    with Session(module_engine) as session, session.begin():
        fill(session)
    return module_engine


@pytest.fixture(scope="module")
def report(filled: Engine) -> Report:
    with Session(filled) as session:
        return build_report(session, STUDY)


@pytest.fixture(scope="module")
def output(report: Report, tmp_path_factory: pytest.TempPathFactory) -> Output:
    """The page, and all files by their names."""
    return written(report, tmp_path_factory.mktemp("reports") / "out")


def sha(value: object) -> str:
    return hashlib.sha256(str(value).encode()).hexdigest()


def fill(session: Session) -> None:
    ids = {}
    for encoder in ENCODERS:
        version = ModelVersion(
            network=encoder, weights_sha256=sha(encoder), input_px=224, mean=(0.5,) * 3,
            std=(0.5,) * 3, interpolation="bicubic", pooling="avg", precision="float32", dim=3,
            licence="none", trained_on="ImageNet-1k",
        )  # fmt: skip
        ids[encoder] = versions.register(session, version)
        pointer = versions.EncoderPointer(ids[encoder], sha(encoder))
        versions.point_encoder(session, STUDY, encoder, pointer)
    digest = fill_tissue(session, ids)
    for task in ("expression", "mutation"):
        fill_genes(session, ids, digest, task)
    reject = Reject("x & y.png", "ingest", "100 % broken; get it again")
    record_rejects(session, STUDY, [reject], run_id="run-0")
    passed = GuardFinding(
        guard="near_duplicate_hash", target="tissue_tiles", passed=True, severity="blocking",
        measured=0.0, unit="pairs", threshold=0.5, summary="no pair",
    )  # fmt: skip
    write_findings(
        session, STUDY, [passed], dataset_digest=digest, inputs_sha256=sha(1), run_id="run-1"
    )
    failed = GuardFinding(
        guard="site_label", target="tissue", passed=False, severity="warning",
        summary="sites <tell> labels",
    )  # fmt: skip
    write_findings(
        session, STUDY, [failed], dataset_digest=digest, inputs_sha256=sha(2), run_id="run-1"
    )


def fill_tissue(session: Session, ids: dict[str, int]) -> str:
    files = tuple(
        TileFile(f"{label[:3]}/{n}.png", label, sha((label, n)), 224, 224, PATIENTS[6 * side + n])
        for side, label in enumerate((HOSTILE, "TUM"))
        for n in range(6)
    )
    written = write_dataset(session, TileFolder(Path("/gone/test"), files, (), sha(0)), mpp=0.5)
    point_dataset(session, STUDY, "tissue_tiles", written.dataset_id, listing_sha256=sha(0))
    tiles = {tile.path.as_posix(): tile for tile in labelled_tiles(session, written.dataset_id)}
    tile_ids = np.array([tile.tile_id for tile in tiles.values()])
    observed = np.array([int(tile.label == "TUM") for tile in tiles.values()])
    experiment_id = experiment(session, ids, "tissue", written.digest, classes=[HOSTILE, "TUM"])
    rng = np.random.default_rng(3)
    folds = np.tile(np.arange(12) % N_FOLDS, (N_REPEATS, 1))
    scores = []
    for encoder, version_id in ids.items():
        write_embeddings(session, version_id, tile_ids, rng.normal(size=(12, 3)).astype("f4"))
        tumour = np.clip(0.5 + 0.3 * (observed - 0.5) + rng.normal(0, 0.2, (N_REPEATS, 12)), 0, 1)
        p = np.stack([1 - tumour, tumour], axis=2).astype(np.float32)
        predictions = results.TilePredictions(
            tile_ids=tile_ids, observed=observed, folds=folds, predicted=p.argmax(axis=2),
            probabilities=p,
        )  # fmt: skip
        results.write_tile_predictions(session, experiment_id, version_id, predictions)
        settings = MapSettings("umap 1.0", 7, 15, 0.1)
        points = rng.normal(size=(12, 2)).astype(np.float32)
        write_map(session, version_id, written.dataset_id, settings, tile_ids.tolist(), points)
        scores += [
            (encoder, "all", "accuracy", repeat, fold, rng.uniform(0.5, 1), 8, 4)
            for repeat in range(N_REPEATS)
            for fold in range(N_FOLDS)
        ]
    columns = ["encoder", *(name for name, _ in results.SCORE_COLUMNS[2:])]
    results.write_scores(session, experiment_id, ids, pd.DataFrame(scores, columns=columns))
    compared = [
        comparison("tissue", "all", "accuracy", 0.9512, 0.0234, 1),
        comparison("tissue", HOSTILE, "recall", 0.8, 0.051, 2),
        comparison("tissue", "TUM", "recall", 0.7, -0.02, 3),
    ]
    results.write_comparisons(session, experiment_id, pd.DataFrame(compared))
    return written.digest


def fill_genes(session: Session, ids: dict[str, int], digest: str, task: str) -> None:
    experiment_id = experiment(session, ids, task, digest, genes=list(GENES))
    rng = np.random.default_rng(4)
    observed = rng.normal(size=(12, len(GENES)))
    if task == "mutation":
        observed = (np.arange(12)[:, None] % 3 == 0).repeat(len(GENES), axis=1).astype(float)
    for version_id in ids.values():
        predicted = rng.uniform(size=(N_REPEATS, 12, len(GENES))).astype(np.float32)
        folds = dict.fromkeys(GENES, np.tile(np.arange(12) % N_FOLDS, (N_REPEATS, 1)))
        predictions = GenePredictions(PATIENTS, GENES, observed, folds, predicted)
        write_gene_predictions(session, experiment_id, version_id, predictions)
    metric = "pearson_r" if task == "expression" else "auroc"
    compared = [
        comparison(task, gene, metric, 0.5 + 0.04 * n, 0.1 - 0.06 * n, n)
        | {"q": 0.04 * n, "test": "jackknife"}
        for n, gene in enumerate(GENES, 1)
    ]
    results.write_comparisons(session, experiment_id, pd.DataFrame(compared))
    count = (task, *ENCODERS, "all", len(GENES), 3, 2.0, 0.0, 4.0, 0.25)
    counts = pd.DataFrame([count], columns=BETTER_COLUMNS)
    write_better_counts(session, experiment_id, counts)
    fill_panels(session, ids, experiment_id, metric)


def fill_panels(session: Session, ids: dict[str, int], experiment_id: int, metric: str) -> None:
    """One panel with tiles, and one whose files were all gone."""
    tile_ids = session.scalars(select(Tile.tile_id).order_by(Tile.tile_id).limit(10)).all()
    tiles = [
        PanelTile(side, n % 5 + 1, tile_id, score, jpeg(n), 16)
        for n, (side, score, tile_id) in enumerate(
            zip(["high"] * 5 + ["low"] * 5, np.linspace(3, -3, 10).tolist(), tile_ids, strict=True)
        )
    ]
    shown, gone = (
        Panel(gene, ids[ENCODERS[1]], metric, r, 10.0, -0.125, 12, 1234, n_unreadable, found)
        for gene, r, n_unreadable, found in (
            (GENES[-1], 0.7, 2, tuple(tiles)),
            ("TP53", 0.6, 9, ()),
        )
    )
    write_panels(session, experiment_id, [gone, shown])


def jpeg(n: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), (20 * n, 90, 120)).save(buffer, "JPEG")
    return buffer.getvalue()


def experiment(
    session: Session,
    ids: dict[str, int],
    task: str,
    digest: str,
    classes: list[str] | None = None,
    **settings: object,
) -> int:
    key = results.ExperimentKey(
        study=STUDY,
        task=task,
        dataset_digest=digest,
        encoders={encoder: sha(encoder) for encoder in ids},
        settings={"n_folds": N_FOLDS, "n_repeats": N_REPEATS, "seed": 7} | settings,
    )
    experiment_id = results.write_experiment(
        session, key, version_ids=ids, n_not_converged=dict.fromkeys(ids, 0),
        classes=classes or [], leakage_checked=True, leakage_note="", run_id=f"run-of-{task}",
    )  # fmt: skip
    results.make_current(session, key)
    return experiment_id


def comparison(
    task: str, target: str, metric: str, mean_a: float, gap: float, n: int
) -> dict[str, object]:
    return {
        "task": task, "target": target, "metric": metric, "encoder_a": ENCODERS[0],
        "encoder_b": ENCODERS[1], "mean_a": mean_a, "mean_b": mean_a + gap, "difference": gap,
        "ci_low": gap - 0.0123, "ci_high": gap + 0.0345, "p_naive": 1.7e-9 * n,
        "p_corrected": 0.031 * n, "test": "corrected_t", "p": 0.031 * n, "q": None,
        "p_holm": 0.031 * n, "standard_error": 0.01,
        "rope": 0.01, "p_a_better": 0.0, "p_equivalent": 0.25, "p_b_better": 0.75,
        "n_splits": 12, "n_repeats": N_REPEATS,
        "n_folds": N_FOLDS, "t_naive": 6.0, "t_corrected": 2.2, "leakage_checked": True,
        "leakage_note": "",
    }  # fmt: skip


class Page(HTMLParser):
    """Tables as rows of texts by id, all tags, and all addresses that the page names."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self._table, self._in_cell = "", False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self.addresses += [str(given[name]) for name in ("src", "href") if name in given]
        assert not [name for name in given if name.startswith("on")]
        if tag == "table":
            self._table = str(given["id"])
            self.tables[self._table] = []
        elif tag == "tr":
            self.tables[self._table].append([])
        elif tag in ("td", "th"):
            self.tables[self._table][-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        self._in_cell = self._in_cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self._in_cell:
            self.tables[self._table][-1][-1] += data


def written(report: Report, folder: Path) -> Output:
    files = {str(file): (folder / file).read_bytes() for file in write_report(report, folder)}
    return files[MANIFEST].decode(), files


def test_every_comparison_on_the_page_and_in_the_files_is_the_databases(
    filled: Engine, output: Output
) -> None:
    html, files = output
    page = Page(html)
    with Session(filled) as session:
        found = comparisons_frame(session, STUDY).to_dict(orient="records")
    for name, task, column in (
        ("tissue", "tissue", None),
        ("tissue_recall", "tissue", "target"),
        ("expression_genes", "expression", "target"),
        ("mutation_genes", "mutation", "target"),
    ):
        rows = page.tables[name][1:]
        expected = [
            row
            for row in found
            if row["task"] == task and (row["target"] == "all") == (name == "tissue")
        ]
        assert len(rows) == len(expected)
        for row in expected:
            label = "accuracy" if column is None else row[column]
            (cells,) = [cells for cells in rows if cells[0] == label]
            means = [score(row[mean], row["metric"]) for mean in ("mean_a", "mean_b")]
            assert cells[1:4] == [difference(row), *means]
            assert p_value(row["p_corrected"]) == cells[4]
            assert p_value(row["p_naive"]) in cells
        stored = {row["target"]: row for row in expected}
        for row in csv.DictReader(io.StringIO(files[f"tables/{name}.csv"].decode())):
            for key in ("mean_a", "mean_b", "difference", "ci_low", "ci_high", "p_corrected"):
                assert float(row[key]) == stored[row["target"]][key]


def test_numbers_are_written_as_a_reader_would_compute_them(report: Report) -> None:
    assert report.findings[0] == (
        "Tissue accuracy: ftx-2048 minus imgnet-2048 is +2.34 [+1.11, +5.79] percentage points "
        "(95 % interval; corrected p\xa0=\xa00.031, naive p\xa0=\xa01.7\xa0×\xa010⁻⁹)."
    )
    assert report.findings[1].startswith("Expression: 3 of 4 genes are better with ftx-2048")
    # The effect and its interval come before any p-value, the naive one after the corrected.
    (table,) = [table for table in report.tables if table.name == "tissue"]
    headings = [column.heading for column in table.columns]
    assert "95\xa0%\xa0CI" in headings[1]
    assert headings.index("p, corrected t-test") < headings.index(
        "naive p (as published papers report)"
    )


def test_published_numbers_stand_apart_and_name_their_source(
    output: Output,
) -> None:
    html, _ = output
    assert html.count(REFERENCE) == 3
    tables = Page(html).tables
    for name, target, text in (
        ("tissue", "accuracy", "96.4 → 98.4 %, P = 2.2 × 10⁻⁶"),
        ("mutation_genes", "TP53", "better with FTX-2048"),
        ("mutation_genes", "KRAS", "–"),
    ):
        head, *rows = tables[name]
        assert head[-1] == "published, on other data"
        assert [row[-1] for row in rows if row[0] == target] == [text]
    # The paper says nothing to single genes' expression.
    assert "published, on other data" not in tables["expression_genes"][0]


def test_the_page_needs_nothing_and_runs_nothing(output: Output) -> None:
    html, files = output
    page = Page(html)
    assert not {"script", "link", "iframe", "object", "b"} & set(page.tags)
    assert all(
        address.startswith(("#", "data:image/svg+xml;base64,", "data:image/jpeg;base64,"))
        for address in page.addresses
    )
    assert "http" not in re.sub(r'src="data:[^"]*"', "", html)
    assert HOSTILE in {cell for row in page.tables["tissue_recall"] for cell in row}
    assert "&lt;script&gt;alert(1)" in html
    for name, content in files.items():
        if name.endswith(".svg"):
            assert b"<script" not in content
            assert b"<dc:date>" not in content


def test_every_figure_says_what_its_bars_are_and_has_both_formats(
    report: Report, output: Output
) -> None:
    html, files = output
    assert {figure.name for figure in report.figures} == {
        "tissue_comparison", "tissue_confusion", "tissue_roc", "tissue_calibration",
        "expression_volcano", "expression_paired", "mutation_volcano", "mutation_paired",
        "mutation_roc", "mutation_calibration", "map_tissue_tiles_1", "map_tissue_tiles_2",
    }  # fmt: skip
    for figure in report.figures:
        assert figure.caption in unescape(html)
        assert files[f"figures/{figure.name}.png"].startswith(b"\x89PNG")
        assert b"<svg" in files[f"figures/{figure.name}.svg"][:600]
        if figure.name.endswith(("roc", "calibration")):
            assert re.search(r"(Bands|Bars) .*95 %", figure.caption)


def test_tiles_are_on_the_page_in_the_files_and_told_to_who_sees_none(
    report: Report, output: Output
) -> None:
    html, files = output
    text = unescape(html)
    assert [panel.name for panel in report.panels] == ["expression_tiles_1", "mutation_tiles_1"]
    for panel in report.panels:
        assert f"{panel.title}.</strong> {panel.caption}" in text
        assert panel.title.startswith("A_1 & <b>{x}, ftx-2048: cross-validated ")
        assert "Out of 1\N{NARROW NO-BREAK SPACE}234 tiles (112 µm wide) of 12" in panel.caption
        assert panel.caption.endswith("2 more extreme tiles could not be read again.")
        assert files[f"figures/{panel.name}.png"].startswith(b"\x89PNG")
        assert b"<svg" in files[f"figures/{panel.name}.svg"][:600]
        assert [len(pictures) for pictures in panel.sides.values()] == [5, 5]
    pictures = re.findall(r'<img src="data:image/jpeg;base64,([^"]+)" alt="([^"]+)"', html)
    assert len(pictures) == 20
    assert pictures[0][1].startswith("Tile 1 taken for high: patient P")
    assert base64.b64decode(pictures[0][0]) == jpeg(0)
    assert text.count("are no evidence that it is right") == 2
    assert text.count("(A_1 & <b>{x}: 2, TP53: 9)") == 2
    # All tiles of the table are in the files, and their pictures are not.
    rows = list(csv.DictReader(io.StringIO(files["tables/expression_tiles.csv"].decode())))
    assert [(row["side"], row["rank"]) for row in rows] == [
        (side, str(rank)) for side in ("high", "low") for rank in range(1, 6)
    ]
    assert "thumbnail" not in rows[0]


def test_tiles_fit_a_phone_and_a_desk(
    output: Output, tmp_path: Path, chromium: Callable[[str], Any]
) -> None:
    html, _ = output
    (tmp_path / "report.html").write_text(html)
    page = chromium((tmp_path / "report.html").as_uri())
    page.until("document.readyState === 'complete'")
    drawn = "[...document.querySelectorAll('.tiles img')].filter(i => i.naturalWidth == 16).length"
    page.until(f"{drawn} === 20")
    columns = "getComputedStyle(document.querySelector('.tiles')).gridTemplateColumns.split(' ')"
    for width, n_columns in ((1200, 8), (360, 4)):
        page.resize(width, 800)
        page.until(f"{columns}.length === {n_columns}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_written_twice_it_is_the_same_to_the_byte(
    filled: Engine, output: Output, tmp_path: Path
) -> None:
    _, first = output
    with Session(filled) as session:
        _, second = written(build_report(session, STUDY), tmp_path / "second")
    assert list(first) == list(second)
    assert [name for name in first if first[name] != second[name]] == []


def test_sections_that_a_study_lacks_are_absent(store: Session, tmp_path: Path) -> None:
    store.execute(
        update(Experiment)
        .where(Experiment.study == STUDY, Experiment.task != "expression")
        .values(is_current=False)
    )
    report = build_report(store, STUDY)
    html, _ = written(report, tmp_path / "out")
    keys = [section.key for section in report.sections]
    assert "expression" in keys
    assert not {"tissue", "mutation", "retrieval", "training"} & set(keys)
    assert "Tissue classification" not in html
    assert "Mutation:" not in report.methods
    assert all(section.tables or section.figures for section in report.sections)


def test_the_flow_the_losses_and_the_guards_are_told(report: Report) -> None:
    by_key = {section.key: section for section in report.sections}
    read, embedded, evaluated = by_key["cohort"].steps
    assert read.counts == ("tissue tiles: 12 tiles, 12 patients, 2 classes",)
    assert read.losses == ("1 file: 100 % broken",)
    assert "tissue, every encoder: 12 of 12 tiles" in embedded.counts
    assert "tissue: 12 tiles" in evaluated.counts
    assert "expression: 12 patients, 4 genes" in evaluated.counts
    assert by_key["guards"].sentences == (
        "1 of 2 measurements are clean, 1 found something, 0 could not be made.",
    )
    (guards,) = by_key["guards"].tables
    assert [cells[3] for cells in guards.cells()] == ["–", "0 pairs (limit 0.5)"]
    assert report.findings[-1].startswith("Caution: 1 measurement of the guards")
    assert by_key["guards"].warnings == ("site_label (tissue): sites <tell> labels",)


def test_provenance_leads_to_weights_data_seeds_and_runs(filled: Engine, output: Output) -> None:
    html, _ = output
    with Session(filled) as session:
        for found in session.scalars(select(Experiment).where(Experiment.study == STUDY)):
            assert found.digest in html
            assert found.dataset_digest in html
            assert str(found.dagster_run_id) in html
    for encoder in ENCODERS:
        assert sha(encoder) in html
    software = dict(Page(html).tables["software"][1:])
    assert software["numpy"] == np.__version__
    assert software["schema of the store"] == schema.head()


def test_methods_are_those_of_the_settings(report: Report) -> None:
    text = report.methods
    assert "4 × 3-fold cross-validation (seed 7)" in text
    assert "2 classes of 12 tiles" in text
    assert "12 patients, 4 genes" in text
    assert "corrected resampled t-test" in text


def test_latex_holds_what_people_read_and_no_name_can_break_it(report: Report) -> None:
    tables = {table.name: table for table in report.tables}
    text = table_latex(tables["mutation_genes"])
    assert r"A\_1 \& \textless{}b\textgreater{}\{x\}" in text
    assert r"1.7 \(\times\) 10\(^{-9}\)" in text
    rows = re.search(r"\\midrule\n(.*)\\bottomrule", text, re.DOTALL)
    assert rows is not None
    n_columns = len(tables["mutation_genes"].columns)
    for line in rows.group(1).strip().splitlines():
        assert line.replace(r"\&", "").count("&") == n_columns - 1
    assert "longtable" not in text


@given(st.text())
def test_any_text_keeps_its_place_in_latex(text: str) -> None:
    escaped = latex_text(text)
    commands = r"\\(text[a-z]+\{2?\}|\((\\times|-|\\to|\^\{[-0-9]+\})\\\)|[{}$&%#_,])"
    assert not re.search(r"[\\{}$&%#_~^\n]", re.sub(commands, "", escaped))


def test_csv_reads_back_to_the_last_digit(report: Report) -> None:
    for table in report.tables:
        rows = list(csv.reader(io.StringIO(table_csv(table))))
        assert rows[0] == list(table.frame.columns)
        assert len(rows) == 1 + len(table.frame)


def test_a_study_without_results_says_what_to_do(session: Session) -> None:
    with pytest.raises(StoreError, match=r"no result of study 'nothing' yet.*ffpe run"):
        build_report(session, "nothing")


def test_a_folder_is_replaced_only_by_force_and_only_if_it_is_a_report(
    report: Report, tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    for force in (False, True):
        with pytest.raises(InputError, match="mine"):
            write_report(report, folder, force=force)
    assert [file.name for file in tmp_path.rglob("*")] == ["mine", "thesis.txt"]
    short = replace(report, sections=())
    write_report(short, tmp_path / "other")
    with pytest.raises(InputError, match="is there already"):
        write_report(short, tmp_path / "other")
    write_report(replace(short, study="newer"), tmp_path / "other", force=True)
    assert "newer" in (tmp_path / "other" / MANIFEST).read_text()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["mine", "other"]


def test_the_command_works_from_the_database_alone(
    filled: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the study's folders nor a whole study file are there any more."""
    url = filled.url.render_as_string(hide_password=False)
    monkeypatch.setenv("FFPE_DATABASE_URL", url)
    monkeypatch.setenv("FFPE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    run = CliRunner().invoke(app, ["report", STUDY])
    assert run.exit_code == 0, run.output
    listed = [line for line in run.stdout.splitlines() if line]
    assert f"{STUDY}_report/report.html" in listed
    assert all(Path(line).is_file() for line in listed)
    # A study file whose folders are gone names the same study, whose report is there.
    (tmp_path / "study.toml").write_text(f'name = "{STUDY}"\n[tissue]\ntiles = "/gone"\n')
    again = CliRunner().invoke(app, ["report", "study.toml"])
    assert isinstance(again.exception, InputError)
    home = Home(tmp_path / "home", database_url=url)
    with open_instance(home) as instance:
        import dagster as dg

        event = instance.get_latest_materialization_event(dg.AssetKey([STUDY, "report"]))
        assert event is not None
        assert event.asset_materialization is not None
        metadata = event.asset_materialization.metadata
    assert {"findings", "methods", "table_tissue", "figure_mutation_roc"} <= set(metadata)
    home.close()


def test_a_study_is_named_or_read_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text('name = "crc5"\nunknown = 1\n')
    assert study_name(str(file)) == "crc5"
    assert study_name("crc5") == "crc5"
    file.write_text("seed = 1\n")
    with pytest.raises(StudyError, match="names no study"):
        study_name(str(file))
    with pytest.raises(StudyError, match="cannot be read"):
        study_name(str(tmp_path / "absent.toml"))


def test_only_what_the_study_shows_now_comes_out(store: Session) -> None:
    store.execute(update(Experiment).where(Experiment.study == STUDY).values(is_current=False))
    with pytest.raises(StoreError):
        build_report(store, STUDY)
