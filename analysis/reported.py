"""Which test a study reports, and what follows from it: interval, p, q, Holm, probabilities.

The corrected resampled t-test stands in every row beside the naive one. Where it finds too
much (Pearson's r and the AUROC of single genes, measured in ``docs/statistics.md``) the
jackknife over patients in both of their roles is reported in its place.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from analysis.bayes import posterior
from analysis.multiplicity import add_holm, add_q_values

if TYPE_CHECKING:
    import pandas as pd

CORRECTED, JACKKNIFE = "corrected_t", "jackknife"
ROPE = 0.01
"""Differences of a point or less are taken as equivalent in practice; chosen beforehand."""

_KEY = ["target", "metric", "encoder_a", "encoder_b"]
_OF_TEST = ["standard_error", "ci_low", "ci_high", "p"]


def reported(
    comparisons: pd.DataFrame, tests: pd.DataFrame | None = None, *, many_targets: bool = False
) -> pd.DataFrame:
    """Choose each row's test and add what follows from it.

    Parameters
    ----------
    comparisons : DataFrame
        As :func:`analysis.compare.compare_encoders` gives it.
    tests : DataFrame, optional
        As :func:`analysis.gene_tests.gene_tests` gives it. A row that has a jackknife there
        reports it; every other row reports the corrected resampled t-test.
    many_targets : bool
        Whether targets are many like questions (genes), so that ``q`` has a meaning.

    Returns
    -------
    DataFrame
        A copy with the columns ``test``, ``p`` and ``p_holm`` (Holm over the pairs of
        encoders), ``q`` (Benjamini-Hochberg over the targets; NaN unless ``many_targets``) and
        ``rope``, ``p_a_better``, ``p_equivalent``, ``p_b_better`` (posterior probabilities
        under a flat prior); ``standard_error``, ``ci_low`` and ``ci_high`` are the test's.
    """
    found = comparisons.assign(test=CORRECTED, p=comparisons["p_corrected"])
    if tests is not None and len(tests):
        jackknife = tests[tests["test"] == JACKKNIFE].set_index(_KEY)
        at = jackknife.index.get_indexer(found.set_index(_KEY).index)
        has = at >= 0
        found.loc[has, "test"] = JACKKNIFE
        for name in _OF_TEST:
            found.loc[has, name] = jackknife[name].to_numpy()[at[has]]
    found = add_holm(found)
    found = add_q_values(found) if many_targets else found.assign(q=np.nan)
    return _with_posterior(found)


def _with_posterior(found: pd.DataFrame) -> pd.DataFrame:
    df = np.where(found["test"] == CORRECTED, found["n_splits"] - 1, math.inf)
    posteriors = [
        posterior(difference, error, df=of_row, rope=ROPE)
        for difference, error, of_row in zip(
            found["difference"], found["standard_error"], df, strict=True
        )
    ]
    names = ("rope", "p_a_better", "p_equivalent", "p_b_better")
    return found.assign(**{name: [getattr(one, name) for one in posteriors] for name in names})
