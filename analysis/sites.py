"""Whether the tissue source site tells what is to be predicted, and whether features tell the site.

Where both hold, an encoder may predict a gene or a class by recognising the hospital's stain
(Howard et al., Nat Commun 12:4423, 2021). Neither alone is a leak; ``group = "site"`` keeps sites
whole in the folds and takes the road away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from analysis.artefacts import balanced_accuracy, permutations_within
from analysis.crossval import cross_validate
from analysis.multiplicity import q_values
from analysis.splits import repeated_folds
from featurestore.errors import CohortError

if TYPE_CHECKING:
    import pandas as pd

MIN_PATIENTS = 5
"""Patients that a site must have to be counted: of fewer nothing can be told."""

_N_PERMUTATIONS = 199
_N_EXCHANGES = 1999


@dataclass(frozen=True)
class SiteScore:
    """How well features tell the site.

    Attributes
    ----------
    balanced_accuracy, chance : float
        Over out-of-fold predictions, and by guessing.
    p : float
        By permutation of the sites.
    n_patients, n_sites : int
        Those of sites with at least :data:`MIN_PATIENTS` patients.
    """

    balanced_accuracy: float
    chance: float
    p: float
    n_patients: int
    n_sites: int


def site_association(
    targets: pd.DataFrame, sites: Sequence[str | None], *, is_binary: bool
) -> pd.DataFrame:
    """How far every target follows the patients' site.

    Parameters
    ----------
    targets : DataFrame of shape (n, n_targets)
        A column a gene, NaN where unknown.
    sites : sequence of str or None, length n
    is_binary : bool
        0 and 1 (a mutation: chi-squared) or numbers (expression: Kruskal-Wallis).

    Returns
    -------
    DataFrame
        Columns ``target``, ``effect`` (Cramér's V, or epsilon squared: the share of the ranks'
        variance that sites explain; both 0-1), ``p``, ``q`` (Benjamini-Hochberg), ``n_patients``
        and ``n_sites``. A target that cannot be tested has NaN.

    Raises
    ------
    CohortError
        If fewer than two sites have :data:`MIN_PATIENTS` patients.
    """
    import pandas as pd

    rows, codes = _large_sites(sites)
    test = _cramers_v if is_binary else _epsilon_squared
    found = []
    for name in targets.columns:
        values = targets[name].to_numpy(dtype=float)[rows]
        known = np.isfinite(values)
        effect, p = test(values[known], codes[known])
        n_sites = len(np.unique(codes[known]))
        found.append((str(name), effect, p, int(known.sum()), n_sites))
    table = pd.DataFrame(found, columns=["target", "effect", "p", "n_patients", "n_sites"])
    tested = table["p"].notna().to_numpy()
    q = np.full(len(table), np.nan)
    if tested.any():
        q[tested] = q_values(table["p"].to_numpy()[tested])
    table.insert(3, "q", q)
    return table


def site_from_features(
    features: NDArray[np.float32], sites: Sequence[str | None], *, seed: int, c: float = 0.1
) -> SiteScore:
    """Tell the site from features by the classifier that encoders are compared with.

    Raises
    ------
    CohortError
        If fewer than two sites have :data:`MIN_PATIENTS` patients.
    """
    rows, codes = _large_sites(sites)
    matrix = features[rows]
    n_sites = int(codes.max()) + 1
    folds = repeated_folds(codes, n_folds=MIN_PATIENTS, n_repeats=1, seed=seed)
    found = cross_validate({"sites": matrix}, codes, folds, n_classes=n_sites, c=c)["sites"]
    predicted = found.probabilities[0].argmax(axis=1)
    observed = balanced_accuracy(predicted, codes)
    rng = np.random.default_rng([seed, 0x517E])
    null = [
        balanced_accuracy(predicted, row)
        for row in permutations_within(codes, None, rng, _N_PERMUTATIONS)
    ]
    p = (1 + sum(value >= observed - 1e-12 for value in null)) / (1 + len(null))
    return SiteScore(observed, 1 / n_sites, float(p), len(codes), n_sites)


def _large_sites(sites: Sequence[str | None]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows of patients whose site has enough of them, and the site of each as a number."""
    names = np.array([site or "" for site in sites], dtype=str)
    distinct, counts = np.unique(names, return_counts=True)
    large = distinct[(counts >= MIN_PATIENTS) & (distinct != "")]
    if len(large) < 2:
        raise CohortError(
            f"{len(large)} site(s) have {MIN_PATIENTS} or more of the {len(names)} patients; two "
            "are needed to ask whether sites differ"
        )
    rows = np.flatnonzero(np.isin(names, large))
    return rows, np.searchsorted(large, names[rows])


def _epsilon_squared(values: NDArray[np.float64], codes: NDArray[np.intp]) -> tuple[float, float]:
    from scipy.stats import kruskal

    groups = [values[codes == code] for code in np.unique(codes)]
    if len(groups) < 2 or np.ptp(values) == 0:
        return float("nan"), float("nan")
    statistic, p = kruskal(*groups)
    # Less the part that k groups explain by chance (Kelley's correction), so that 0 is nothing.
    n, k = len(values), len(groups)
    return float(max(0.0, (statistic - k + 1) / (n - k))) if n > k else float("nan"), float(p)


def _cramers_v(values: NDArray[np.float64], codes: NDArray[np.intp]) -> tuple[float, float]:
    from scipy.stats import chi2_contingency

    _, sites = np.unique(codes, return_inverse=True)
    if len(sites) < 3 or sites.max() == 0 or np.ptp(values) == 0:
        return float("nan"), float("nan")
    n_by_site = np.bincount(sites)
    mutated = np.bincount(sites, weights=values)
    result = chi2_contingency([mutated, n_by_site - mutated], correction=False)
    p = float(result.pvalue)
    if result.expected_freq.min() < 5:
        p = _permuted_p(values, sites)  # there the statistic is no chi-squared
    # Bias-corrected (Bergsma 2013, J Korean Stat Soc 42:323): the plain V is never near 0.
    n, n_sites = len(values), len(n_by_site)
    phi = max(0.0, result.statistic / n - (n_sites - 1) / (n - 1))
    rows = 2 - 1 / (n - 1)
    columns = n_sites - (n_sites - 1) ** 2 / (n - 1)
    smaller = min(rows, columns) - 1
    effect = float(min(1.0, np.sqrt(phi / smaller))) if smaller > 0 else float("nan")
    return effect, p


def _permuted_p(values: NDArray[np.float64], sites: NDArray[np.intp]) -> float:
    """The chi-squared statistic's p-value by exchanging the mutated patients.

    With both margins fixed the statistic rises with the sum of squared counts over sizes.
    """
    rng = np.random.default_rng(0)
    n_by_site = np.bincount(sites)

    def statistic(permuted: NDArray[np.float64]) -> float:
        return float((np.bincount(sites, weights=permuted) ** 2 / n_by_site).sum())

    observed = statistic(values)
    null = [statistic(rng.permutation(values)) for _ in range(_N_EXCHANGES)]
    return (1 + sum(value >= observed - 1e-9 for value in null)) / (1 + len(null))
