"""Artefacts that tell a label: planted ones are found, clean data passes, each by itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from analysis.artefact_guard import (
    COLOUR,
    LABEL_IN_NAME,
    NAME,
    ArtefactTable,
    artefact_findings,
)
from analysis.artefacts import TOGETHER, artefact_scores, permutations_within
from featurestore.errors import CohortError
from featurestore.guards import GuardFinding
from featurestore.sources.file_facts import FileFacts, jpeg_quality, name_facts, read_file_facts

CLASSES = ("a", "b", "c")


def clean_table(n: int = 300, seed: int = 0) -> ArtefactTable:
    rng = np.random.default_rng(seed)
    labels = [CLASSES[i % 3] for i in range(n)]
    order = rng.permutation(n)
    return ArtefactTable(
        labels=labels,
        patients=[None] * n,
        files=[
            FileFacts(int(size), "JPEG", 224, 224, 90.0, 7)
            for size in rng.integers(10_000, 20_000, n)
        ],
        names=[name_facts(f"{x}/tile_{order[i]}.jpg", x) for i, x in enumerate(labels)],
        mean_rgb=rng.normal(150, 20, (n, 3)),
    )


def leaks(table: ArtefactTable, seed: int = 1) -> dict[str, GuardFinding]:
    findings = artefact_findings(table, target="tiles", seed=seed)
    return {finding.part: finding for finding in findings if finding.passed is False}


@pytest.mark.parametrize("seed", range(5))
def test_clean_data_passes(seed: int) -> None:
    assert leaks(clean_table(seed=seed), seed) == {}


def test_each_planted_artefact_is_found_by_itself_and_the_others_stay_clean() -> None:
    table = clean_table()
    is_a = np.array([label == "a" for label in table.labels])
    planted = {
        "file size": replace(
            table,
            files=[
                replace(f, size_bytes=f.size_bytes + 8_000 * int(a))
                for f, a in zip(table.files, is_a, strict=True)
            ],
        ),
        "JPEG quality": replace(
            table,
            files=[
                replace(f, jpeg_quality=75.0 if a else 90.0)
                for f, a in zip(table.files, is_a, strict=True)
            ],
        ),
        "image size": replace(
            table,
            files=[
                replace(f, width_px=224 - int(a)) for f, a in zip(table.files, is_a, strict=True)
            ],
        ),
        NAME: replace(
            table,
            names=[
                name_facts(f"{label}/{'x' if a else 'y'}_{i}.png", label)
                for i, (label, a) in enumerate(zip(table.labels, is_a, strict=True))
            ],
        ),
        COLOUR: replace(table, mean_rgb=table.mean_rgb + 60 * is_a[:, None]),
    }
    for artefact, leaking in planted.items():
        found = leaks(leaking)
        assert set(found) == {artefact, TOGETHER}
        assert found[artefact].measured is not None
        assert found[artefact].measured > 0.4
        assert found[artefact].details["p"] == 1 / 1000


def test_a_label_in_the_name_is_reported_apart_from_what_else_the_name_tells() -> None:
    table = clean_table()
    named = replace(
        table,
        names=[name_facts(f"{x}/img_{x}_{i}.png", x) for i, x in enumerate(table.labels)],
    )
    found = leaks(named)
    # Without the label's own letters the name tells nothing: numbers follow no class.
    assert set(found) == {LABEL_IN_NAME}
    assert found[LABEL_IN_NAME].measured == 1


def test_tiles_of_a_patient_are_no_independent_witnesses() -> None:
    rng = np.random.default_rng(4)
    patients = np.repeat(np.arange(12), 25)
    labels = np.array(["a", "b"])[patients % 2]
    # Every patient's scanner has its own colour; by chance they sort themselves a little.
    colour = rng.normal(0, 30, 12)[patients] + rng.normal(0, 1, 300)
    by_tile = artefact_scores({"colour": colour}, labels.tolist(), seed=1)[0]
    by_patient = artefact_scores(
        {"colour": colour}, labels.tolist(), patients=[f"P{p}" for p in patients], seed=1
    )[0]
    assert by_tile.balanced_accuracy > 0.8
    assert by_tile.p <= 0.001
    assert by_patient.by_patient
    assert by_patient.p > 0.01


def test_permuted_labels_stay_within_a_patient_or_move_with_it() -> None:
    rng = np.random.default_rng(5)
    groups = np.array([1, 1, 1, 2, 2, 3])
    mixed = permutations_within(np.array([0, 1, 0, 1, 0, 2]), groups, rng, 50)
    assert (np.sort(mixed[:, :3], axis=1) == [0, 0, 1]).all()
    assert (mixed[:, 5] == 2).all()
    assert len({tuple(row) for row in mixed.tolist()}) > 3
    whole = permutations_within(np.array([0, 0, 0, 1, 1, 2]), groups, rng, 50)
    assert (whole[:, 0] == whole[:, 1]).all()
    assert (whole[:, 3] == whole[:, 4]).all()


def test_the_p_value_is_uniform_where_nothing_is_there() -> None:
    rng = np.random.default_rng(6)
    p = [
        artefact_scores({"x": rng.normal(size=90)}, ["a", "b", "c"] * 30, seed=i)[0].p
        for i in range(60)
    ]
    # Cross-validated predictions of nothing lean below chance, so p may lean upwards, not down.
    assert np.mean(np.array(p) <= 0.1) <= 0.2


def test_one_class_cannot_be_looked_at_and_is_no_leak() -> None:
    table = clean_table(30)
    one = replace(table, labels=["a"] * 30)
    (found,) = artefact_findings(one, target="tiles", seed=1)
    assert found.passed is None
    assert "two classes" in found.summary
    with pytest.raises(CohortError):
        artefact_scores({"x": np.zeros(3)}, ["a", "a", "b"], seed=1)


def test_a_vanished_file_is_counted_and_the_rest_is_looked_at() -> None:
    table = clean_table()
    gone = replace(table, files=[None, *table.files[1:]])
    findings = artefact_findings(gone, target="tiles", seed=1)
    assert findings[0].details["n_files_gone"] == 1
    assert not [finding for finding in findings if finding.passed is False]


@pytest.mark.parametrize("quality", [25, 50, 75, 90, 95])
def test_jpeg_quality_is_read_from_the_file(tmp_path: Path, quality: int) -> None:
    file = tmp_path / "tile.jpg"
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(file, quality=quality)
    facts = read_file_facts(file)
    assert facts is not None
    assert abs(facts.jpeg_quality - quality) <= 1
    assert (facts.width_px, facts.height_px, facts.format) == (60, 40, "JPEG")
    assert facts.size_bytes == file.stat().st_size


def test_what_is_no_jpeg_has_no_quality_and_what_is_no_image_no_facts(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / "tile.png")
    facts = read_file_facts(tmp_path / "tile.png")
    assert facts is not None
    assert np.isnan(facts.jpeg_quality)
    assert facts.jpeg_table == 0
    (tmp_path / "text.png").write_text("no image")
    assert read_file_facts(tmp_path / "text.png") is None
    assert read_file_facts(tmp_path / "absent.png") is None
    assert np.isnan(jpeg_quality({}))


@pytest.mark.parametrize(
    ("path", "label", "pattern", "holds"),
    [
        ("AC/image_AC_105.jpg", "AC", "image_*_#", True),
        ("TUM/TUM-TCGA-ABCD.tif", "TUM", "*-tcga-abcd", True),
        ("AC/vacuum_7.png", "AC", "vacuum_#", False),
        ("a/0.png", "a", "#", False),
    ],
)
def test_names_are_taken_apart(path: str, label: str, pattern: str, holds: bool) -> None:
    facts = name_facts(path, label)
    assert (facts.pattern, facts.holds_label) == (pattern, holds)
