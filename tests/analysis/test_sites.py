"""Sites that tell the target, and features that tell the site: planted, and absent."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.sites import site_association, site_from_features
from featurestore.errors import CohortError

N = 120


@pytest.fixture
def sites() -> list[str | None]:
    return [f"0{i % 4}" for i in range(N - 2)] + ["99", None]


def site_numbers(sites: list[str | None]) -> np.ndarray:
    return np.array([int(site or 0) for site in sites])


def test_a_gene_that_follows_the_site_is_found_among_those_that_do_not(
    sites: list[str | None],
) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(N, 40)), columns=[f"G{i}" for i in range(40)])
    frame["G7"] += (site_numbers(sites) == 2) * 2
    table = site_association(frame, sites, is_binary=False)
    assert table.loc[table["q"] <= 0.05, "target"].tolist() == ["G7"]
    assert table["effect"].between(0, 1).all()
    assert table.loc[7, "effect"] > 0.2
    assert (table["n_patients"] == N - 2).all()  # the site of one, and nobody's, are left out
    assert (table["q"] >= table["p"]).all()


def test_a_mutation_that_follows_the_site_is_found(sites: list[str | None]) -> None:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame((rng.random((N, 9)) < 0.3).astype(float))
    frame[3] = (rng.random(N) < np.where(site_numbers(sites) == 1, 0.8, 0.15)).astype(float)
    frame.loc[:20, 4] = np.nan
    frame[8] = 0.0
    table = site_association(frame, sites, is_binary=True)
    assert table.loc[table["q"] <= 0.05, "target"].tolist() == ["3"]
    assert table.loc[3, "effect"] > 0.4
    assert np.isnan(table.loc[8, ["effect", "p", "q"]].astype(float)).all()
    assert table.loc[4, "n_patients"] < N - 2


def test_nothing_there_is_rarely_claimed(sites: list[str | None]) -> None:
    rng = np.random.default_rng(2)
    expression = pd.DataFrame(rng.normal(size=(N, 400)))
    rare = pd.DataFrame((rng.random((N, 60)) < 0.04).astype(float))
    assert np.mean(site_association(expression, sites, is_binary=False)["p"] <= 0.05) < 0.08
    p = site_association(rare, sites, is_binary=True)["p"].dropna()
    assert np.mean(p <= 0.05) < 0.12


def test_features_that_tell_the_site_are_found_and_others_are_not(
    sites: list[str | None],
) -> None:
    rng = np.random.default_rng(3)
    features = rng.normal(size=(N, 30)).astype(np.float32)
    clean = site_from_features(features, sites, seed=1)
    assert clean.p > 0.05
    assert (clean.n_sites, clean.n_patients, clean.chance) == (4, N - 2, 0.25)
    features[np.arange(N), site_numbers(sites) % 30] += 4
    stained = site_from_features(features, sites, seed=1)
    assert stained.p == 1 / 200
    assert stained.balanced_accuracy > 0.8


def test_too_few_sites_cannot_be_asked() -> None:
    with pytest.raises(CohortError, match="1 site"):
        site_association(pd.DataFrame({"G": np.zeros(6)}), ["01"] * 6, is_binary=False)
    with pytest.raises(CohortError, match="0 site"):
        site_from_features(np.zeros((3, 2), np.float32), [None, "01", "02"], seed=1)
