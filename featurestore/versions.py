"""Model versions in the store: registering, finding and following them back to their data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, aliased

from featurestore.embeddings import ensure_partition
from featurestore.errors import StoreError
from featurestore.model_versions import ModelVersion
from featurestore.tables import ModelVersionRow, StudyEncoder, TrainingEpoch


def register(session: Session, version: ModelVersion) -> int:
    """Enter a model version, with a partition for its embeddings; known ones are left as is.

    Parameters
    ----------
    session : sqlalchemy.orm.Session
        The caller commits.
    version : ModelVersion
        If it has a parent, that must be registered already.

    Returns
    -------
    int
        Its ``model_version_id``.

    Raises
    ------
    StoreError
        If its parent is not registered.
    """
    # Whoever registers takes turns: a new partition locks the table that others insert into, and
    # they hold what it waits for.
    session.execute(select(func.pg_advisory_xact_lock(func.hashtext("model_versions"))))
    values = asdict(version)
    parent = values.pop("parent_sha256")
    values["sha256"] = version.sha256
    values["parent_id"] = None if parent is None else _required(session, parent)
    values |= {"mean": list(version.mean), "std": list(version.std)}
    session.execute(insert(ModelVersionRow).values(values).on_conflict_do_nothing())
    version_id = _required(session, version.sha256)
    ensure_partition(session, version_id, version.dim)
    return version_id


def find(session: Session, sha256: str) -> int | None:
    """The id of the version with this digest, or None."""
    return session.scalar(
        select(ModelVersionRow.model_version_id).where(ModelVersionRow.sha256 == sha256)
    )


def _required(session: Session, sha256: str) -> int:
    version_id = find(session, sha256)
    if version_id is None:
        raise StoreError(f"model version {sha256[:12]}… is not in the store: register it first")
    return version_id


def load(session: Session, model_version_id: int) -> ModelVersion:
    """The content of a registered version.

    Raises
    ------
    StoreError
        If there is no such version.
    """
    row = session.get(ModelVersionRow, model_version_id)
    if row is None:
        raise StoreError(f"the store holds no model version {model_version_id}")
    parent = None if row.parent_id is None else session.get_one(ModelVersionRow, row.parent_id)
    return ModelVersion(
        network=row.network,
        network_options=row.network_options,
        weights_sha256=row.weights_sha256,
        input_px=row.input_px,
        mpp=row.mpp,
        mean=(row.mean[0], row.mean[1], row.mean[2]),
        std=(row.std[0], row.std[1], row.std[2]),
        interpolation=row.interpolation,
        pooling=row.pooling,
        precision=row.precision,
        dim=row.dim,
        licence=row.licence,
        trained_on=row.trained_on,
        trained_on_digest=row.trained_on_digest,
        training=row.training,
        parent_sha256=None if parent is None else parent.sha256,
        weights_source=row.weights_source,
    )


def find_finetuned(
    session: Session,
    *,
    parent_sha256: str,
    trained_on_digest: str,
    training: dict[str, object],
) -> int | None:
    """The newest version that was trained exactly so, or None: asks before training again."""
    parent = aliased(ModelVersionRow)
    return session.scalar(
        select(ModelVersionRow.model_version_id)
        .join(parent, parent.model_version_id == ModelVersionRow.parent_id)
        .where(
            parent.sha256 == parent_sha256,
            ModelVersionRow.trained_on_digest == trained_on_digest,
            ModelVersionRow.training == training,
        )
        .order_by(ModelVersionRow.model_version_id.desc())
        .limit(1)
    )


@dataclass(frozen=True, slots=True)
class EncoderPointer:
    """The version that a study's encoder name stands for, and what it was asked for as."""

    model_version_id: int
    recipe_sha256: str


def point_encoder(session: Session, study: str, encoder: str, pointer: EncoderPointer) -> None:
    """Let a study's encoder name stand for a version from now on; the caller commits."""
    values = asdict(pointer)
    statement = insert(StudyEncoder).values(study=study, encoder=encoder, **values)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=[StudyEncoder.study, StudyEncoder.encoder],
            set_=values | {"updated_at": func.now()},
        )
    )


def study_encoders(session: Session, study: str) -> dict[str, EncoderPointer]:
    """The versions that a study's encoder names stand for, by name."""
    rows = session.execute(
        select(
            StudyEncoder.encoder, StudyEncoder.model_version_id, StudyEncoder.recipe_sha256
        ).where(StudyEncoder.study == study)
    )
    return {row.encoder: EncoderPointer(row.model_version_id, row.recipe_sha256) for row in rows}


def record_epochs(session: Session, model_version_id: int, epochs: pd.DataFrame) -> None:
    """Store a training curve (columns as in ``training_epochs``); known epochs are kept."""
    # What was not measured is NaN in a frame and NULL in the database.
    known = epochs.astype(object).where(epochs.notna(), None)
    rows: list[dict[Any, Any]] = known.to_dict(orient="records")
    if rows:
        session.execute(
            insert(TrainingEpoch).on_conflict_do_nothing(),
            [{"model_version_id": model_version_id, **row} for row in rows],
        )


def epochs_frame(session: Session, model_version_id: int) -> pd.DataFrame:
    """The training curve of a version, one row an epoch, in order."""
    columns = [
        TrainingEpoch.step,
        TrainingEpoch.epoch,
        TrainingEpoch.train_loss,
        TrainingEpoch.train_accuracy,
        TrainingEpoch.validation_loss,
        TrainingEpoch.validation_accuracy,
        TrainingEpoch.seconds,
    ]
    rows = session.execute(
        select(*columns)
        .where(TrainingEpoch.model_version_id == model_version_id)
        .order_by(TrainingEpoch.step, TrainingEpoch.epoch)
    ).all()
    frame = pd.DataFrame(rows, columns=[column.key for column in columns])
    return frame.astype({"validation_loss": float, "validation_accuracy": float})


def trained_on_digests(session: Session, model_version_id: int) -> Sequence[str]:
    """Digests of the data sets that a version, or any version before it, was trained on."""
    line = (
        select(ModelVersionRow.parent_id, ModelVersionRow.trained_on_digest)
        .where(ModelVersionRow.model_version_id == model_version_id)
        .cte("line", recursive=True)
    )
    above = aliased(ModelVersionRow)
    line = line.union_all(
        select(above.parent_id, above.trained_on_digest).where(
            above.model_version_id == line.c.parent_id
        )
    )
    known = select(line.c.trained_on_digest).where(line.c.trained_on_digest.is_not(None))
    return list(session.scalars(known))
