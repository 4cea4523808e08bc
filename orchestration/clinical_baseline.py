"""The clinical baseline of a study: registered like an encoder, read from the clinical table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from featurestore import versions
from featurestore.molecular_frames import clinical_frame
from featurestore.tables import MolecularSource
from featurestore.versions import EncoderPointer
from orchestration.study_sections import CLINICAL

__all__ = ["CLINICAL", "clinical_features", "register_clinical"]


def register_clinical(session: Session, study: str, source_id: int) -> None:
    """Let the study's encoder name ``clinical`` stand for this table; the caller commits."""
    from analysis.clinical_features import clinical_version

    source = session.get_one(MolecularSource, source_id)
    _, columns = clinical_features(session, source, None)
    version = clinical_version(source.digest, columns)
    pointer = EncoderPointer(versions.register(session, version), version.sha256)
    versions.point_encoder(session, study, CLINICAL, pointer)


def clinical_features(
    session: Session, source: MolecularSource, patients: Sequence[str] | None
) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Clinical features of patients, with the columns that all patients of the table give.

    A patient who is not in the table has every variable missing.
    """
    from analysis.clinical_features import VARIABLES, clinical_matrix

    frame = clinical_frame(session, source.source_id, variables=VARIABLES)
    if patients is None:
        return clinical_matrix(frame)
    # Columns come from the whole table, so that they do not depend on who is asked for.
    everyone = frame.index.union(list(patients), sort=False)
    matrix, columns = clinical_matrix(frame.reindex(everyone))
    rows = everyone.get_indexer(pd.Index(list(patients)))
    return matrix[rows], columns
