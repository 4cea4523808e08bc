"""Does the difference hold in every stratum: by site, stage, sex or another clinical column?

Nothing is fitted again: the out-of-fold predictions of the whole cohort are scored among the
patients of a stratum, repeat by repeat, with an interval over patients.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.bootstrap import MIN_PATIENTS, bootstrap_difference
from analysis.delong import MIN_OF_A_CLASS
from analysis.multiplicity import holm
from featurestore.errors import CohortError, Reject

if TYPE_CHECKING:
    import pandas as pd

STAGE = "strata"
COLUMNS = (
    "stratum", "n_patients", "mean_a", "a_low", "a_high", "mean_b", "b_low", "b_high",
    "difference", "ci_low", "ci_high", "p", "p_holm",
)  # fmt: skip


def stratified_differences(
    observed: ArrayLike,
    folds: NDArray[np.integer],
    a: NDArray[np.floating],
    b: NDArray[np.floating],
    strata: pd.Series[str],
    *,
    metric: str,
    seed: int,
    min_patients: int = 30,
    n_draws: int = 2000,
    confidence: float = 0.95,
) -> tuple[pd.DataFrame, tuple[Reject, ...]]:
    """Score two encoders in every stratum of a clinical column.

    A stratum is scored over all of its patients of a repeat together, since a fold holds too
    few of them; so the whole cohort's row of a study, a mean over folds, is not the mean of
    these. Assumptions: those of :func:`analysis.bootstrap.bootstrap_difference`. That one
    stratum's interval excludes 0 and another's does not is no evidence that they differ.

    Parameters
    ----------
    observed, folds, a, b, metric, seed, n_draws, confidence
        As for :func:`analysis.bootstrap.bootstrap_difference`, a row a patient.
    strata : Series of shape (n,)
        Clinical value of every patient, None where missing; named after the column.
    min_patients : int
        Smaller strata are left out; at least 20. For the AUROC each class must also have 10.

    Returns
    -------
    table : DataFrame
        One row a stratum, in sorted order, with the columns ``COLUMNS``: effect sizes with
        their intervals, then p and p by Holm over the strata.
    rejects : tuple of Reject
        Strata that are too small, and patients without a value, and why.

    Raises
    ------
    CohortError
        No stratum is large enough, or the rows do not agree.
    """
    import pandas as pd

    y, name = np.asarray(observed, dtype=np.float64), str(strata.name or "stratum")
    if len(strata) != len(y) or folds.ndim != 2 or folds.shape[1] != len(y):
        raise CohortError(
            f"got {len(strata)} values of {name} and folds of shape {folds.shape} for {len(y)} "
            "patients; give one value a patient"
        )
    if min_patients < MIN_PATIENTS:
        raise CohortError(f"min_patients must be at least {MIN_PATIENTS}, got {min_patients}")
    values, missing = strata.to_numpy(dtype=object), strata.isna().to_numpy()
    tested = (folds >= 0).all(axis=0)
    rows, rejects = [], []
    for stratum in sorted(set(values[~missing].tolist()), key=str):
        members = ~missing & (values == stratum) & tested
        reason = _too_small(y[members], metric, min_patients)
        if reason is not None:
            rejects.append(Reject(f"{name} = {stratum}", STAGE, reason))
            continue
        together = np.where(members, 0, -1)
        found = bootstrap_difference(
            y,
            np.broadcast_to(together, folds.shape),
            a,
            b,
            metric=metric,
            seed=seed,
            n_draws=n_draws,
            confidence=confidence,
        )
        rows.append((stratum, *(getattr(found, column) for column in COLUMNS[1:-1])))
    n_missing = int((missing & tested).sum())
    if n_missing:
        rejects.append(Reject(f"{name} missing", STAGE, f"{n_missing} patients have no {name}"))
    if not rows:
        raise CohortError(
            f"no stratum of {name} is large enough; the first, {rejects[0].item}: "
            f"{rejects[0].reason}"
        )
    table = pd.DataFrame(rows, columns=list(COLUMNS[:-1]))
    return table.assign(p_holm=holm(table["p"].to_numpy())), tuple(rejects)


def _too_small(y: NDArray[np.float64], metric: str, min_patients: int) -> str | None:
    """Why a stratum cannot be scored, or None."""
    if len(y) < min_patients:
        return (
            f"{len(y)} patients, expected at least {min_patients}; put strata together that belong "
            "together"
        )
    if metric == "auroc":
        n_1 = int((y == 1).sum())
        if min(n_1, len(y) - n_1) < MIN_OF_A_CLASS:
            return (
                f"{n_1} patients with and {len(y) - n_1} without, expected at least "
                f"{MIN_OF_A_CLASS} of each"
            )
    return None
