"""The test of two encoders on tissue that needs predictions: the patient bootstrap of accuracy."""

from __future__ import annotations

from collections.abc import Collection
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis.bootstrap import bootstrap_difference
from analysis.gene_tests import COLUMNS, N_REPEATS
from featurestore.errors import CohortError

if TYPE_CHECKING:
    from analysis.tissue import TissueResult


def tissue_tests(result: TissueResult, *, baselines: Collection[str] = ()) -> pd.DataFrame:
    """Draw patients with replacement, and compare the accuracy of every pair of networks.

    Parameters
    ----------
    result : TissueResult
    baselines : collection of str
        Encoders that are passed over.

    Returns
    -------
    DataFrame
        One row a pair with the columns :data:`analysis.gene_tests.COLUMNS`; none where a tile
        names no patient, since tiles of one patient are not independent, or where there are
        fewer than 20 patients or two repeats.
    """
    cohort, folds = result.cohort, result.folds[:N_REPEATS]
    patients = cohort.patients
    rows = []
    if patients is not None and not pd.isna(patients).any():
        networks = [name for name in result.predictions if name not in baselines]
        for a, b in combinations(networks, 2):
            of_a, of_b = (
                result.predictions[name].predicted[:N_REPEATS].astype(np.float64) for name in (a, b)
            )
            try:
                found = bootstrap_difference(
                    cohort.labels,
                    folds,
                    of_a,
                    of_b,
                    metric="accuracy",
                    seed=result.settings.seed,
                    patients=patients.astype(str),
                    n_draws=1000,
                )
            except CohortError:
                break  # too few patients or repeats, for every pair
            about = ("all", "accuracy", a, b, "bootstrap")
            rows.append((*about, *(getattr(found, name) for name in COLUMNS[5:11]), None, None))
    return pd.DataFrame(rows, columns=list(COLUMNS))
