"""What random folds add to a score: the same encoders under folds that keep groups whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

_KEY = ["encoder", "target", "metric"]


def fold_optimism(random: pd.DataFrame, kept: pd.DataFrame) -> pd.DataFrame:
    """Mean scores under both kinds of folds, side by side.

    Where tiles of a patient, or patients of a site, stand on both sides of a split, a model
    may score by recognising the patient or the site (Howard et al., Nat Commun 12:4423, 2021).
    The difference of the two means says how much; it has the chance of both deals of folds
    in it, so a small one means nothing.

    Parameters
    ----------
    random, kept : DataFrame
        Scores as an evaluation returns them: under random folds, and under folds that keep
        groups whole.

    Returns
    -------
    DataFrame
        Columns encoder, target, metric, random_score and kept_score, for what has both.
    """
    means = [frame.groupby(_KEY, sort=False)["value"].mean() for frame in (random, kept)]
    both = means[0].rename("random_score").to_frame().join(means[1].rename("kept_score"))
    return both.dropna().reset_index()
