"""Whether something else explains a difference: strata, and clinical variables, gene by gene.

Both start from the out-of-fold predictions that an experiment keeps, in the patients' order of
its frames; which genes are looked at is the caller's choice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analysis.added_value import added_value
from analysis.cores import on_every_core
from analysis.multiplicity import add_q_values
from analysis.strata import COLUMNS as STRATUM_COLUMNS
from analysis.strata import stratified_differences
from featurestore.errors import CohortError

if TYPE_CHECKING:
    import pandas as pd

MAX_LEVELS = 12
"""A text column of more different values (a note, an identifier) is no stratification."""

_N_DRAWS, _N_PERMUTATIONS, _N_REPEATS = 1000, 99, 2
_ADDED = ("clinical_score", "combined_score", "null_low", "null_high", "p", "n_patients")


@dataclass(frozen=True)
class GenePredictions:
    """What every encoder predicts of one gene.

    Attributes
    ----------
    target : str
    patients : Index of length n
    observed : ndarray of shape (n,)
    folds : ndarray of shape (n_repeats, n)
    predicted : mapping of str to ndarray of shape (n_repeats, n)
        By encoder.
    """

    target: str
    patients: pd.Index[str]
    observed: NDArray[np.float64]
    folds: NDArray[np.int64]
    predicted: Mapping[str, NDArray[np.float64]]


def predictions_of(frames: Mapping[str, pd.DataFrame], target: str) -> GenePredictions:
    """Put together what encoders predict of a gene.

    Parameters
    ----------
    frames : mapping of str to DataFrame
        By encoder, as :func:`featurestore.prediction_frames.gene_predictions_frame` gives them.
    target : str
    """
    import pandas as pd

    rows = {name: frame[frame["target"] == target] for name, frame in frames.items()}
    first = next(iter(rows.values()))
    return GenePredictions(
        target=target,
        patients=pd.Index(first["patient_id"]),
        observed=first["observed"].to_numpy(dtype=np.float64),
        folds=np.array(first["folds"].tolist(), dtype=np.int64).T,
        predicted={
            name: np.array(of["predicted"].tolist(), dtype=np.float64).T
            for name, of in rows.items()
        },
    )


def clinical_strata(clinical: pd.DataFrame, sites: pd.Series[str]) -> pd.DataFrame:
    """Strata of patients: sites, the values of clinical columns, numbers in two halves.

    Parameters
    ----------
    clinical : DataFrame
        Text by patient, None where missing.
    sites : Series of str
        Tissue source site by patient.

    Returns
    -------
    DataFrame
        A column a stratification, by patient as ``sites``; columns of one value, or of more than
        ``MAX_LEVELS`` that are no numbers, are left out.
    """
    import pandas as pd

    strata = {"site": sites}
    for name in clinical.columns:
        values = clinical[name].reindex(sites.index)
        numbers = pd.to_numeric(values, errors="coerce")
        is_number = bool(numbers.notna().sum() == values.notna().sum())
        if is_number and numbers.nunique() > MAX_LEVELS:
            middle = float(numbers.median())
            halves = np.where(numbers < middle, f"< {middle:g}", f">= {middle:g}")
            values = pd.Series(halves, index=values.index, dtype=object).where(
                numbers.notna(), None
            )
        if 1 < values.nunique() <= MAX_LEVELS:
            strata[str(name)] = values
    return pd.DataFrame(strata)


def strata_of_genes(
    genes: Sequence[GenePredictions],
    pairs: Sequence[tuple[str, str]],
    strata: pd.DataFrame,
    *,
    metric: str,
    seed: int,
    on_progress: Callable[[int, int], None] | None = None,
    n_jobs: int | None = None,
) -> tuple[pd.DataFrame, str]:
    """Differences of pairs of encoders in every stratum, for some genes.

    Returns
    -------
    (DataFrame, str)
        Columns target, metric, encoder_a, encoder_b, variable and those of
        :data:`analysis.strata.COLUMNS`; and what was left out, in words ("" if nothing).
    """
    import pandas as pd

    work = [(gene, pair, str(name)) for gene in genes for pair in pairs for name in strata.columns]

    def run(item: tuple[GenePredictions, tuple[str, str], str]) -> tuple[Any, set[str]]:
        gene, (a, b), name = item
        try:
            table, rejects = stratified_differences(
                gene.observed,
                gene.folds,
                gene.predicted[a],
                gene.predicted[b],
                strata[name].reindex(gene.patients),
                metric=metric,
                seed=seed,
                n_draws=_N_DRAWS,
            )
        except CohortError:
            return None, {name}
        about = {"target": gene.target, "metric": metric, "encoder_a": a, "encoder_b": b}
        return table.assign(**about, variable=name), {one.item for one in rejects}

    tables, left_out = [], set[str]()
    for table, rejected in on_every_core(run, work, n_jobs=n_jobs, on_progress=on_progress):
        left_out |= rejected
        if table is not None:
            tables.append(table)
    columns = ["target", "metric", "encoder_a", "encoder_b", "variable", *STRATUM_COLUMNS]
    note = f"too few patients, for one gene or more: {', '.join(sorted(left_out))}"
    found = pd.concat(tables)[columns] if tables else pd.DataFrame(columns=columns)
    return found, note if left_out else ""


def added_value_of_genes(
    genes: Sequence[GenePredictions],
    clinical: pd.DataFrame,
    features: Mapping[str, pd.DataFrame],
    *,
    metric: str,
    seed: int,
    groups: pd.Series[str] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    n_jobs: int | None = None,
) -> tuple[pd.DataFrame, str]:
    """What each encoder's features add to the clinical variables, for some genes.

    Parameters
    ----------
    genes : sequence of GenePredictions
        Whose first two repeats of folds are used.
    clinical : DataFrame of float
        By patient, as :func:`analysis.clinical_features.clinical_matrix` gives it.
    features : mapping of str to DataFrame of float
        By encoder, by patient.
    metric, seed, groups
        As for :func:`analysis.added_value.added_value`.

    Returns
    -------
    (DataFrame, str)
        Columns encoder, target, metric, clinical_score, combined_score, null_low, null_high, p,
        q (Benjamini-Hochberg over an encoder's genes), n_patients, n_permutations; and what was
        left out, in words.
    """
    import pandas as pd

    work = [(gene, name) for name in features for gene in genes]

    def run(item: tuple[GenePredictions, str]) -> dict[str, Any] | None:
        gene, name = item
        try:
            found = added_value(
                gene.observed,
                clinical.loc[gene.patients].to_numpy(dtype=np.float64),
                features[name].loc[gene.patients].to_numpy(),
                gene.folds[:_N_REPEATS],
                metric=metric,
                seed=seed,
                groups=None if groups is None else groups.loc[gene.patients].to_numpy(),
                n_permutations=_N_PERMUTATIONS,
            )
        except CohortError:
            return None
        about = {"encoder": name, "target": gene.target, "metric": metric}
        scores = {"clinical_score": found.clinical, "combined_score": found.both}
        rest = {name: getattr(found, name) for name in _ADDED[2:]}
        return {**about, **scores, **rest, "n_permutations": _N_PERMUTATIONS}

    rows, left_out = [], set[str]()
    found = on_every_core(run, work, n_jobs=n_jobs, on_progress=on_progress)
    for (gene, _), row in zip(work, found, strict=True):
        if row is None:
            left_out.add(gene.target)
        else:
            rows.append(row)
    columns = ["encoder", "target", "metric", *_ADDED, "n_permutations"]
    table = pd.DataFrame(rows, columns=columns)
    note = f"too few patients, or a score that no split defines: {', '.join(sorted(left_out))}"
    if len(table):
        named = table.assign(task="", encoder_a="", encoder_b=table["encoder"])
        table = table.assign(q=add_q_values(named)["q"])
    return table, note if left_out else ""
