"""Synthetic cohorts: slides that OpenSlide opens, tables that are read, and a known truth."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import openslide
import pandas as pd
import pytest
from scipy import stats

from featurestore.errors import SourceError
from featurestore.sources.expression import read_expression
from featurestore.sources.mutations import read_mutations
from featurestore.sources.slide_files import find_slides
from featurestore.sources.slides import inspect_slides
from featurestore.sources.synthetic_molecules import (
    MARKERS,
    MoleculeSettings,
    factors_from_tables,
    simulate_molecules,
)
from featurestore.sources.synthetic_slides import FACTORS, draw_factors, draw_slide, write_cohort

FLAT = dict.fromkeys(FACTORS, 0.3)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("cohort")
    write_cohort(root, factors=draw_factors(3, seed=1), seed=1, slide_px=512)
    return root


def test_slides_open_with_their_resolution_and_patient(cohort):
    slides = inspect_slides(find_slides(cohort))

    assert slides.rejects == ()
    assert [slide.patient_id for slide in slides.slides] == sorted(draw_factors(3, seed=1).index)
    for slide in slides.slides:
        assert (slide.width_px, slide.height_px) == (512, 512)
        assert slide.mpp == pytest.approx(0.5)
        assert slide.downsamples == (1.0, 2.0)


def test_levels_show_the_same(cohort):
    slide = openslide.OpenSlide(sorted(cohort.glob("*.tif"))[0])
    fine = np.asarray(slide.read_region((0, 0), 0, (512, 512)).reduce(2))[..., :3].astype(int)
    coarse = np.asarray(slide.read_region((0, 0), 1, (256, 256)))[..., :3]

    off = np.abs(fine - coarse).mean()
    assert off < 5  # JPEG
    assert off < 0.5 * np.abs(np.roll(fine, 1, axis=1) - coarse).mean()


def test_what_is_there_is_kept_unless_it_was_drawn_of_other_factors(tmp_path: Path):
    factors = draw_factors(2, seed=1)
    write_cohort(tmp_path, factors=factors, seed=1, slide_px=512)
    first, second = sorted(tmp_path.glob("*.tif"))
    before = {file: file.stat().st_mtime_ns for file in (first, second)}
    pixels = first.read_bytes()
    factors.iloc[1] = 0.9

    write_cohort(tmp_path, factors=factors, seed=1, slide_px=512)

    assert first.stat().st_mtime_ns == before[first]
    assert second.stat().st_mtime_ns != before[second]
    first.write_bytes(b"cut off")
    write_cohort(tmp_path, factors=factors, seed=1, slide_px=512)
    assert first.read_bytes() == pixels


def test_factors_shape_the_tissue():
    def darkness(**changed: float) -> np.ndarray:
        slides = [draw_slide("p", FLAT | changed, seed=seed, slide_px=512) for seed in range(3)]
        middle = np.stack(slides)[:, 128:384, 128:384].astype(float)
        return np.log(256 / (middle + 1)).mean(axis=(0, 1, 2))

    red, _, blue = darkness(lymphocytes=0.95) - darkness(lymphocytes=0.05)
    assert red > blue + 0.02  # haematoxylin takes red light
    red, _, blue = darkness(stroma=0.95) - darkness(stroma=0.05)
    assert red < 0  # eosin takes little of it


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        (pd.DataFrame({"lymphocytes": [0.5]}), "lack glands, necrosis, stroma"),
        (pd.DataFrame([dict(FLAT, stroma=1.2)]), "from 0 to 1"),
        (pd.DataFrame([dict(FLAT, stroma=np.nan)]), "from 0 to 1"),
        (pd.DataFrame([FLAT, FLAT], index=["a", "a"]), "a patient twice"),
    ],
)
def test_impossible_factors_are_refused(tmp_path: Path, factors, message):
    with pytest.raises(ValueError, match=message):
        write_cohort(tmp_path, factors=factors, seed=1)


def test_tables_are_read_as_real_ones_and_say_what_the_truth_says(tmp_path: Path):
    factors = draw_factors(300, seed=5)
    settings = MoleculeSettings(n_planted=8, n_null=20, rates=(0.3, 0.4))
    truth = simulate_molecules(tmp_path, factors=factors, seed=5, settings=settings)

    table = read_expression(tmp_path / "expression.tsv.gz")
    assert (table.rejects, set(table.patients)) == ((), set(factors.index))
    values = pd.DataFrame(table.values.T, index=table.patients, columns=table.symbols)
    aligned = factors.loc[values.index]
    for gene in truth[truth["kind"] == "expression"].itertuples():
        r = {name: stats.pearsonr(values[gene.symbol], aligned[name])[0] for name in FACTORS}
        for name in FACTORS:
            expected = gene.effect if name == gene.factor else 0.0
            assert r[name] == pytest.approx(expected, abs=0.24), (gene.symbol, name)

    mutations = read_mutations(tmp_path / "mutations.maf.gz")
    assert set(mutations.patients) == set(factors.index)
    non_silent = mutations.counts[mutations.counts["n_non_silent"] > 0]
    for gene in truth[truth["kind"] == "mutation"].itertuples():
        mutated = set(non_silent.loc[non_silent["symbol"] == gene.symbol, "patient"])
        is_mutated = factors.index.isin(mutated)
        assert 0.2 < is_mutated.mean() < 0.5
        p = {n: stats.mannwhitneyu(factors[n][is_mutated], factors[n][~is_mutated])[1]
             for n in FACTORS}  # fmt: skip
        assert {name for name in FACTORS if p[name] < 1e-4} == ({gene.factor} - {""})
    assert "PASSENGER" not in set(non_silent["symbol"])


def test_same_seed_same_bytes(tmp_path: Path):
    factors = draw_factors(10, seed=1)
    for folder in ("a", "b"):
        simulate_molecules(tmp_path / folder, factors=factors, seed=1)
    simulate_molecules(tmp_path / "c", factors=factors, seed=2)

    a, b, c = ((tmp_path / name / "expression.tsv.gz").read_bytes() for name in "abc")
    assert a == b != c
    with gzip.open(tmp_path / "a" / "mutations.maf.gz", "rt") as maf:
        assert next(maf).startswith("#")


def test_real_tables_drive_factors():
    rng = np.random.default_rng(0)
    patients = [f"p{i}" for i in range(60)]
    symbols = [symbol for markers in MARKERS.values() for symbol in markers]
    expression = pd.DataFrame(rng.normal(5, 1, (60, len(symbols))), patients, symbols)
    inflamed = np.arange(60) < 20
    expression.loc[inflamed, list(MARKERS["lymphocytes"])] += 2
    mutations = pd.DataFrame({"TP53": [1.0] * 30 + [np.nan] * 10}, index=patients[20:])

    factors = factors_from_tables(expression, mutations)

    assert list(factors.index) == patients
    assert ((factors > 0) & (factors < 1)).all(axis=None)
    assert factors["lymphocytes"][inflamed].min() > factors["lymphocytes"][~inflamed].max()
    assert factors["glands"][20:50].mean() < factors["glands"][50:].mean()

    expression.loc["p3", list(MARKERS["stroma"])] = np.nan
    with pytest.raises(SourceError, match="patient p3 has no value of COL1A1"):
        factors_from_tables(expression, mutations)
    with pytest.raises(SourceError, match="the expression table has none of CA9"):
        factors_from_tables(expression.drop(columns=list(MARKERS["necrosis"])), mutations)
