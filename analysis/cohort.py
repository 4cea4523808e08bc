"""Cohorts: the only place where analysis reads the store.

What leaves here is arrays. Everything that must hold before a number may be computed is
checked here: the embeddings are complete, and no tile was seen in an encoder's training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy.orm import Session

from analysis.patients import PatientCohort
from analysis.tissue import TissueCohort
from featurestore.datasets import labelled_tiles
from featurestore.embeddings import coverage, embedded_tiles, matrix
from featurestore.errors import CohortError, LeakageError, Reject, StoreError
from featurestore.guards import blocking_leaks
from featurestore.leakage import tiles_trained_on
from featurestore.patient_features import patient_matrix, pooled_counts
from featurestore.tables import Dataset

if TYPE_CHECKING:
    import pandas as pd


def load_tissue_cohort(
    session: Session, *, study: str, dataset_id: int, version_ids: Mapping[str, int]
) -> TissueCohort:
    """Read the tiles that every encoder has embedded, in the order of their digests.

    Parameters
    ----------
    session : sqlalchemy.orm.Session
        Only read from.
    study : str
        Whose ledger explains tiles without an embedding.
    dataset_id : int
    version_ids : mapping of str to int
        Encoder name to model version, in the order of the study file.

    Raises
    ------
    LeakageError
        If an encoder was trained on a tile of the data set or on its patient.
    StoreError
        If embeddings are missing without a reason in the ledger.
    CohortError
        If fewer than two classes remain.
    """
    refuse_found_leaks(session, study, dataset_id)
    for encoder, version_id in version_ids.items():
        refuse_leakage(session, encoder, version_id, dataset_id)
        refuse_gaps(session, encoder, version_id, dataset_id, study)
    tiles = labelled_tiles(session, dataset_id)
    for version_id in version_ids.values():
        embedded = embedded_tiles(session, version_id, dataset_id)
        tiles = [tile for tile in tiles if tile.tile_id in embedded]
    classes = tuple(sorted({tile.label for tile in tiles}))
    if len(classes) < 2:
        raise CohortError(
            f"study {study!r}: {len(tiles)} embedded tiles of {len(classes)} class(es) are left; "
            "a classification needs at least two classes. See the ledger (`ffpe status`)."
        )
    index = {label: position for position, label in enumerate(classes)}
    patients = [tile.patient_id for tile in tiles]
    tile_ids = [tile.tile_id for tile in tiles]
    return TissueCohort(
        tile_ids=np.array(tile_ids, dtype=np.int64),
        labels=np.array([index[tile.label] for tile in tiles], dtype=np.int64),
        classes=classes,
        patients=None if not any(patients) else np.array(patients, dtype=object),
        features={name: matrix(session, key, tile_ids) for name, key in version_ids.items()},
    )


def refuse_leakage(session: Session, encoder: str, version_id: int, dataset_id: int) -> None:
    """Raise :class:`LeakageError` if the encoder was trained on tiles of the data set."""
    leaked = tiles_trained_on(session, version_id, dataset_id)
    if leaked:
        raise LeakageError(
            f"encoder {encoder!r} was fine-tuned on {len(leaked)} of the tiles (or on other tiles "
            f"of their patients) that it is to be evaluated on; first: {', '.join(leaked[:3])}. "
            "Remove them from one of the two folders."
        )


def refuse_found_leaks(session: Session, study: str, dataset_id: int) -> None:
    """Raise :class:`LeakageError` if a guard found a blocking leak in the study's data set."""
    found = blocking_leaks(session, study, session.get_one(Dataset, dataset_id).digest)
    if found:
        raise LeakageError(
            f"study {study!r}: a guard found a leak: {'; '.join(found)}. Remove what it names from "
            "one of the two sides (`ffpe guards` lists all of it), then run the study again."
        )


def refuse_gaps(
    session: Session, encoder: str, version_id: int, dataset_id: int, study: str
) -> None:
    """Raise :class:`StoreError` if tiles lack an embedding and the ledger does not say why."""
    found = coverage(session, version_id, dataset_id, study)
    if found.n_missing:
        raise StoreError(
            f"encoder {encoder!r}: {found.n_missing} of {found.n_tiles} tiles have no embedding "
            "and no reason in the ledger; materialise its embeddings first"
        )


@dataclass(frozen=True)
class Pooled:
    """The pooled features that a cohort is made of: one data set, several model versions.

    Imported features are of tiles that another tool cut: ``own_dataset_ids`` has the data set
    of an encoder that has one of its own.
    """

    study: str
    dataset_id: int
    version_ids: Mapping[str, int]
    own_dataset_ids: Mapping[str, int] = field(default_factory=dict)

    def dataset_of(self, encoder: str) -> int:
        """The data set whose tiles an encoder's features are pooled from."""
        return self.own_dataset_ids.get(encoder, self.dataset_id)


def load_patient_cohort(
    session: Session, pooled: Pooled, targets: pd.DataFrame, *, by_site: bool
) -> PatientCohort:
    """Join patient features of every encoder with what is to be predicted of them.

    Parameters
    ----------
    session : sqlalchemy.orm.Session
        Only read from.
    pooled : Pooled
    targets : DataFrame
        Indexed by patient, a column a gene, NaN where unknown; its patients are the cohort's.
    by_site : bool
        Whether folds keep whole tissue source sites together.

    Raises
    ------
    LeakageError
        If an encoder was trained on a tile of these patients.
    StoreError
        If embeddings or pooled features are missing.
    CohortError
        If sites are to be kept whole and a patient has none.
    """
    refuse_found_leaks(session, pooled.study, pooled.dataset_id)
    for encoder, version_id in pooled.version_ids.items():
        dataset_id = pooled.dataset_of(encoder)
        refuse_leakage(session, encoder, version_id, dataset_id)
        refuse_gaps(session, encoder, version_id, dataset_id, pooled.study)
    patients = tuple(map(str, targets.index))
    first, version_id = next(iter(pooled.version_ids.items()))
    counts = pooled_counts(session, version_id, pooled.dataset_of(first))
    sites = counts.set_index("patient_id")["tissue_source_site"].reindex(list(patients))
    if by_site and sites.isna().any():
        raise CohortError(
            f"{int(sites.isna().sum())} of {len(patients)} patients have no tissue source site "
            f'(first: {sites.index[sites.isna()][0]}); use group = "patient"'
        )
    return PatientCohort(
        patient_ids=patients,
        features={
            name: patient_matrix(session, version_id, pooled.dataset_of(name), patients)
            for name, version_id in pooled.version_ids.items()
        },
        targets=targets,
        groups=sites.to_numpy(dtype=object) if by_site else None,
    )


def pooled_patients(session: Session, pooled: Pooled) -> tuple[tuple[str, ...], tuple[Reject, ...]]:
    """Patients with features of every encoder, sorted, and those that an encoder lacks."""
    of_encoder = {
        name: set(pooled_counts(session, version_id, pooled.dataset_of(name))["patient_id"])
        for name, version_id in pooled.version_ids.items()
    }
    everyone = set[str]().union(*of_encoder.values())
    rejects = []
    for patient in sorted(everyone):
        lacking = [name for name, patients in of_encoder.items() if patient not in patients]
        if lacking:
            reason = f"the patient has no features of {', '.join(lacking)}, so none is compared"
            rejects.append(Reject(patient, "cohort", reason))
    left_out = {reject.item for reject in rejects}
    return tuple(sorted(everyone - left_out)), tuple(rejects)
