"""The recipes of docs/sql.md, each run as it stands there, with the answer that is right."""

from __future__ import annotations

import re
from collections.abc import Callable
from math import sqrt
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session

PAGE = Path(__file__).parents[2] / "docs" / "sql.md"


def recipes() -> dict[str, list[str]]:
    """SQL by the heading that it stands under."""
    sections = re.split(r"^## (.+)\n", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    found = {
        heading: re.findall(r"^```sql\n(.+?)^```", body, flags=re.MULTILINE | re.DOTALL)
        for heading, body in zip(sections[::2], sections[1::2], strict=True)
    }
    return {heading: blocks for heading, blocks in found.items() if blocks}


@pytest.fixture
def ask(small_store: Session) -> Callable[..., list[dict[str, Any]]]:
    """Run a recipe by its heading (and number below it)."""

    def run(heading: str, number: int = 0) -> list[dict[str, Any]]:
        query = recipes()[heading][number].replace("%", "%%")
        return [dict(row) for row in small_store.connection().exec_driver_sql(query).mappings()]

    return run


def test_every_recipe_has_a_test_below() -> None:
    tests = Path(__file__).read_text(encoding="utf-8")
    for heading, blocks in recipes().items():
        assert tests.count(f'ask("{heading}"') >= len(blocks)
    assert len(recipes()) == 6


def test_features_and_expression(ask) -> None:
    found = ask("Patient features × CD8A expression")
    assert [(row["patient_id"], row["tissue_source_site"], row["expression"]) for row in found] == [
        ("TCGA-05-0001", "05", 2.0),
        ("TCGA-05-0002", "05", 3.0),
    ]
    assert {row["expression_unit"] for row in found} == {"log2(FPKM+1)"}
    # The mean of (1, 0, 0) and (0, 1, 0), and of (0.9, 0.1, 0) and (0, 0, 1).
    assert found[0]["features"].to_list() == [0.5, 0.5, 0]
    assert found[1]["features"].to_list() == pytest.approx([0.45, 0.05, 0.5], abs=1e-3)


def test_accuracy(ask) -> None:
    found = ask("Accuracy per class and encoder")
    # One of four held-out predictions is wrong where there is a mistake at all.
    assert [
        (row["observed_class"], row["encoder"], float(row["accuracy"]), row["n_tiles"])
        for row in found
    ] == [
        ("STR", "ftx-2048", 1.0, 2),
        ("STR", "imgnet-2048", 0.75, 2),
        ("TUM", "ftx-2048", 0.75, 2),
        ("TUM", "imgnet-2048", 0.75, 2),
    ]


def test_genes_that_only_one_predicts(ask) -> None:
    found = ask("Genes that only FTX predicts")
    assert [(row["gene"], row["r_ftx"], row["q_imgnet"]) for row in found] == [
        ("CD8A", 0.6, 0.5),
        ("TP53", 0.35, 0.3),
    ]
    assert {row["p_corrected"] for row in found} == {0.03}


def test_similar_tiles(ask) -> None:
    found = ask("Tiles most like this one from other patients")
    # Of (1, 0, 0): tiles of patients 2 and 3 only, and the features of ftx-2048 only.
    assert [(row["patient_id"], row["x_px"]) for row in found] == [
        ("TCGA-05-0002", 0),
        ("TCGA-49-0003", 448),
        ("TCGA-49-0003", 0),
        ("TCGA-05-0002", 448),
    ]
    expected = [1 - 0.9 / sqrt(0.82), 1 - 0.1 / sqrt(1.01), 1 - 0.02 / sqrt(0.6804), 1]
    assert [row["distance"] for row in found] == pytest.approx(expected, abs=1e-3)


def test_lost_slides(ask) -> None:
    found = ask("How many slides were lost and why")
    assert [(row["stage"], row["n_slides"], row["for_example"][:12]) for row in found] == [
        ("embed", 1, "TCGA-49-0004"),
        ("ingest", 1, "TCGA-49-0006"),
        ("tile", 1, "TCGA-49-0005"),
    ]
    assert found[1]["reason_pattern"] == "OpenSlide cannot open it"


def test_provenance(ask) -> None:
    both = ask("Everything a given result rests on")
    assert [(row["side"], row["encoder"], row["trained_on"]) for row in both] == [
        ("a", "imgnet-2048", "ImageNet-1k"),
        ("b", "ftx-2048", "crc/train"),
    ]
    for row in both:
        assert row["dagster_run_id"] == "run-of-expression"
        assert re.fullmatch("[0-9a-f]{64}", row["weights_sha256"])
        assert row["gene_table"].endswith("fpkm.csv")
        assert (row["seed"], row["settings"]["genes"]) == (7, ["CD8A", "EGFR", "TP53"])
    line = ask("Everything a given result rests on", 1)
    assert [(row["encoder"], row["generation"], row["network"]) for row in line] == [
        ("ftx-2048", 0, "ftx"),
        ("ftx-2048", 1, "imgnet"),
        ("imgnet-2048", 0, "imgnet"),
    ]
    tiles = ask("Everything a given result rests on", 2)
    # Three slides of two tiles by two encoders, and two tiles of fine-tuning; slide 4 was lost.
    assert [row["used_for"] for row in tiles].count("evaluation") == 12
    assert [row["file"] for row in tiles if row["used_for"] == "fine-tuning"] == [
        "STR/STR9.png",
        "TUM/TUM9.png",
    ]
    place = [(row["slide"], row["x_px"], row["y_px"], row["width_px"]) for row in tiles[:2]]
    assert place == [
        ("TCGA-05-0001-01Z-00-DX1.svs", 0, 896, 224),
        ("TCGA-05-0001-01Z-00-DX1.svs", 448, 896, 224),
    ]
