"""The paragraph of methods: what was done, in words, from the settings in the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from orchestration.report.numbers import count, number_of

if TYPE_CHECKING:
    import pandas as pd

    from featurestore.tables import Experiment

_GROUPS = {
    "patient": "every patient whole within a fold",
    "tissue_source_site": "all patients of a tissue source site within one fold",
}


def methods_paragraph(
    experiments: Sequence[Experiment], models: pd.DataFrame, evaluated: pd.DataFrame
) -> str:
    """A paragraph to paste; it says only what the database knows.

    Parameters
    ----------
    experiments : sequence of Experiment
        Those that the study shows now.
    models, evaluated : DataFrame
        As :mod:`featurestore.report_frames` gives them.
    """
    units = evaluated.set_index("task").to_dict(orient="index")
    parts = [_features(models)]
    for experiment in experiments:
        write = {"tissue": _tissue, "expression": _expression, "mutation": _mutation}.get(
            experiment.task
        )
        if write is not None:
            parts.append(write(experiment, units.get(experiment.task, {})))
    parts.append(
        "All encoders saw identical splits, and whatever was fitted was fitted inside the "
        "training fold. Encoders were compared by the difference of their scores on the same "
        "splits, two-sided, with 95 % confidence intervals of the same test: shares of tiles with "
        "the corrected resampled t-test (Nadeau & Bengio, Mach Learn 2003; Bouckaert & Frank, "
        "PAKDD 2004), Pearson's r and the AUROC of genes with a jackknife that leaves every "
        "patient out of testing and of training (Efron & Stein, Ann Stat 1981), or with the former "
        "where there are fewer than 50 patients; "
        "p-values of the uncorrected paired t-test, which takes splits as independent, are given "
        "for comparison with published papers only."
    )
    if {experiment.task for experiment in experiments} & {"expression", "mutation"}:
        parts.append(
            "Over the genes of a pair of encoders p-values were corrected after Benjamini and "
            "Hochberg (q). Whether one encoder predicts more genes better was tested by "
            "exchanging the two encoders' predictions patient by patient. Folds that keep tissue "
            "source sites whole stand beside folds that keep patients whole (Howard et al., Nat "
            "Commun 2021), and the genes predicted best were looked at by stratum and beside age, "
            "sex and stage."
        )
    return " ".join(parts)


def _features(models: pd.DataFrame) -> str:
    described = [_model(row) for row in models.to_dict(orient="records")]
    return (
        f"Features of haematoxylin-and-eosin tiles were computed with "
        f"{number_of(len(described), 'encoder')}: {'; '.join(described)}."
    )


def _model(row: Mapping[Any, Any]) -> str:
    weights = row["weights_sha256"]
    what = f"{row['encoder']} ({row['network']}, {count(row['dim'])} features"
    if isinstance(weights, str):
        what += f", {row['trained_on']}, weights SHA-256 {weights[:12]}"
    training = row["training"]
    if isinstance(training, dict):
        what += ", fine-tuned"
        if "seed" in training:
            what += f" with seed {training['seed']}"
    return what + ")"


def _splits(experiment: Experiment) -> str:
    return (
        f"{experiment.n_repeats} × {experiment.n_folds}-fold cross-validation "
        f"(seed {experiment.seed})"
    )


def _tissue(experiment: Experiment, units: Mapping[Any, int]) -> str:
    n_classes = len(experiment.classes or [])
    tiles = f"of {number_of(units['n_tiles'], 'tile')} " if units else ""
    c = experiment.settings.get("c")
    penalty = "" if c is None else f" (L2 penalty, C = {c:g})"
    whole = (
        "every patient's tiles were kept within one fold"
        if experiment.leakage_checked
        else f"patients could not be kept within folds ({experiment.leakage_note})"
    )
    return (
        f"Tissue: {number_of(n_classes, 'class', 'classes')} {tiles}were told by multinomial "
        f"logistic regression{penalty} on standardised features in {_splits(experiment)}; {whole}."
    )


def _cohort(experiment: Experiment, units: Mapping[Any, int]) -> str:
    group = experiment.settings.get("group")
    kept = _GROUPS.get(str(group), "every patient whole within a fold")
    n = f"{number_of(units['n_patients'], 'patient')}, " if units else ""
    genes = f"{number_of(units['n_targets'], 'gene')}, " if units else ""
    return f"{n}{genes}{_splits(experiment)} with {kept}"


def _expression(experiment: Experiment, units: Mapping[Any, int]) -> str:
    settings = experiment.settings
    components = settings.get("n_components")
    axes = "" if components is None else f" on {components} principal components"
    permuted = settings.get("n_permutations")
    tested = (
        ""
        if permuted is None
        else f" A gene counts as predictable by a permutation test of the whole procedure "
        f"({count(int(permuted))} permutations of patients)."
    )
    return (
        "Expression: tile features were averaged by patient, and log2(x + 1) expression was "
        f"predicted by ridge regression{axes} with a penalty chosen inside the training patients, "
        f"gene by gene ({_cohort(experiment, units)}); scored by Pearson's r within test folds."
        f"{tested}"
    )


def _mutation(experiment: Experiment, units: Mapping[Any, int]) -> str:
    return (
        "Mutation: tile features were averaged by patient, and mutated was told from wild-type by "
        "class-weighted logistic regression with a penalty chosen inside the training patients, "
        "with probabilities shifted back to the prevalence there, gene by gene "
        f"({_cohort(experiment, units)}, folds stratified by mutation); scored by AUROC within "
        "test folds."
    )
