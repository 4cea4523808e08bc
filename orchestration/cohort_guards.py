"""Guards that look at patients and encoders: sites, and what encoders were pre-trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from featurestore import pretraining
from featurestore.datasets import labelled_tiles
from featurestore.errors import CohortError
from featurestore.guards import WARNING, GuardFinding
from featurestore.molecular_frames import expression_frame, mutation_frame
from featurestore.patient_features import patient_matrix, pooled_counts
from featurestore.tables import Patient
from orchestration.experiments import TASK, tissue_inputs
from orchestration.gene_inputs import GeneInputs, gene_inputs
from orchestration.guards import write_found
from orchestration.home import Home
from orchestration.luad_sources import EXPRESSION
from orchestration.pretraining_note import stated_pretraining
from orchestration.study import Study
from orchestration.study_sections import CLINICAL

if TYPE_CHECKING:
    import pandas as pd

TARGET_GUARD = "site_target"
FEATURE_GUARD = "site_features"
PRETRAINING_GUARD = "pretrained_on_tcga"

_MAX_Q = 0.05
_N_SHOWN = 20


def look_at_sites(
    home: Home, study: Study, task: str, *, run_id: str | None
) -> dict[str, list[GuardFinding]]:
    """Whether the tissue source site tells what is predicted, and whether features tell the site.

    Returns
    -------
    dict of str to list of GuardFinding
        By guard.
    """
    with Session(home.engine) as session:
        inputs = gene_inputs(home, session, study, task)
        targets, sites, features = _cohort(session, inputs, task)
    by_site = inputs.key.settings["group"] == "site"
    found = {
        TARGET_GUARD: [_targets(targets, sites, task, by_site=by_site)],
        FEATURE_GUARD: [
            _features(name, matrix, sites, task, study.seed) for name, matrix in features.items()
        ],
    }
    for findings in found.values():
        write_found(home, study, findings, inputs.key.dataset_digest, [inputs.key.digest], run_id)
    return found


def look_at_pretraining(
    home: Home, study: Study, task: str, *, run_id: str | None
) -> list[GuardFinding]:
    """Whether encoders that were pre-trained on TCGA are judged on TCGA patients."""
    with Session(home.engine) as session:
        if task == TASK:
            tissue = tissue_inputs(session, study)
            key, version_ids = tissue.key, tissue.version_ids
            patients = {tile.patient_id for tile in labelled_tiles(session, tissue.dataset_id)}
        else:
            genes = gene_inputs(home, session, study, task)
            key, version_ids = genes.key, genes.version_ids
            first, version_id = next(iter(version_ids.items()))
            pooled = pooled_counts(session, version_id, genes.dataset_of(first))
            patients = set(pooled["patient_id"])
        answers = pretraining.tcga_encoders(session, version_ids, stated_pretraining(study))
    on_tcga = pretraining.are_tcga(patients)
    findings = [
        _encoder(encoder, answer, task, on_tcga=on_tcga) for encoder, answer in answers.items()
    ]
    write_found(home, study, findings, key.dataset_digest, [key.digest], run_id)
    return findings


def _cohort(
    session: Session, inputs: GeneInputs, task: str
) -> tuple[pd.DataFrame, list[str | None], dict[str, np.ndarray]]:
    encoders = {name: key for name, key in inputs.version_ids.items() if name != CLINICAL}
    pooled = [
        set(pooled_counts(session, key, inputs.dataset_of(name))["patient_id"])
        for name, key in encoders.items()
    ]
    tissue = sorted(set.intersection(*pooled)) if pooled else []
    frame = expression_frame if task == EXPRESSION else mutation_frame
    targets = frame(session, inputs.source.source_id, patients=tissue, symbols=inputs.genes)
    patients = list(map(str, targets.index))
    rows = session.execute(
        select(Patient.patient_id, Patient.tissue_source_site).where(
            Patient.patient_id.in_(patients)
        )
    )
    site_of = {row.patient_id: row.tissue_source_site for row in rows}
    features = {
        name: patient_matrix(session, key, inputs.dataset_of(name), patients)
        for name, key in encoders.items()
    }
    return targets, [site_of.get(patient) for patient in patients], features


def _targets(
    targets: pd.DataFrame, sites: list[str | None], task: str, *, by_site: bool
) -> GuardFinding:
    from analysis.sites import site_association

    try:
        table = site_association(targets, sites, is_binary=task != EXPRESSION)
    except CohortError as error:
        return _unknown(TARGET_GUARD, task, "", error)
    told = table[table["q"] <= _MAX_Q].sort_values(["p", "target"])
    kept = "; folds keep sites whole" if by_site else '; group = "site" keeps sites whole in folds'
    return GuardFinding(
        guard=TARGET_GUARD,
        target=task,
        # Where folds keep sites whole, the road from site to target is closed.
        passed=by_site or told.empty,
        severity=WARNING,
        measured=len(told),
        unit="genes",
        threshold=1,
        summary=f"{len(told)} of {len(table)} genes differ between tissue source sites (q <= "
        f"{_MAX_Q:g}){kept}",
        details={
            "n_genes": len(table),
            "n_tested": int(table["p"].notna().sum()),
            "by_site": by_site,
            "genes": told.head(_N_SHOWN).round(6).to_dict(orient="records"),
        },
    )


def _features(
    encoder: str, matrix: np.ndarray, sites: list[str | None], task: str, seed: int
) -> GuardFinding:
    from analysis.sites import site_from_features

    try:
        score = site_from_features(matrix, sites, seed=seed)
    except CohortError as error:
        return _unknown(FEATURE_GUARD, task, encoder, error)
    return GuardFinding(
        guard=FEATURE_GUARD,
        target=task,
        part=encoder,
        passed=score.p > 0.01 or score.balanced_accuracy <= score.chance,
        severity=WARNING,
        measured=score.balanced_accuracy,
        unit="balanced accuracy",
        threshold=None,
        summary=f"features of {encoder} tell the tissue source site with a balanced accuracy of "
        f"{100 * score.balanced_accuracy:.1f} % (chance {100 * score.chance:.1f} %, "
        f"p = {score.p:.3g})",
        details={
            "chance": score.chance,
            "p": score.p,
            "n_patients": score.n_patients,
            "n_sites": score.n_sites,
        },
    )


def _encoder(encoder: str, answer: bool | None, task: str, *, on_tcga: bool) -> GuardFinding:
    if not on_tcga:
        return GuardFinding(
            guard=PRETRAINING_GUARD,
            target=task,
            part=encoder,
            passed=True,
            severity=WARNING,
            summary="no patient of the task is one of TCGA",
        )
    was = "was" if answer else "was not"
    summary = f"{encoder} {was} pre-trained on TCGA, whose patients it is judged on"
    if answer is None:
        summary = (
            f"{encoder} may have been pre-trained on TCGA, whose patients it is judged on: nothing "
            "is known of its training data; say `trained_on_tcga` in its entry"
        )
    return GuardFinding(
        guard=PRETRAINING_GUARD,
        target=task,
        part=encoder,
        passed=None if answer is None else not answer,
        severity=WARNING,
        summary=summary,
    )


def _unknown(guard: str, task: str, part: str, error: CohortError) -> GuardFinding:
    return GuardFinding(
        guard=guard,
        target=task,
        part=part,
        passed=None,
        severity=WARNING,
        summary=f"could not be looked for: {error}",
    )
