"""Model versions, how they were trained, and the features that they gave."""

from __future__ import annotations

from typing import Any

from pgvector.sqlalchemy import HALFVEC
from sqlalchemy import CheckConstraint, ForeignKey, Text
from sqlalchemy.dialects.postgresql import ARRAY, DOUBLE_PRECISION, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from featurestore.tables.base import (
    Base,
    Double,
    Key,
    Now,
    Sha256,
    SmallInt,
    is_sha256,
    not_empty,
    plausible_mpp,
)
from featurestore.tables.tissue import Dataset, Patient, Tile


class ModelVersionRow(Base):
    """An encoder's exact content; see :class:`featurestore.model_versions.ModelVersion`."""

    __tablename__ = "model_versions"
    __table_args__ = (
        is_sha256("sha256"),
        is_sha256("weights_sha256"),
        plausible_mpp(),
        CheckConstraint("input_px > 0", name="input_px_positive"),
        CheckConstraint("dim BETWEEN 1 AND 16000", name="dim_storable"),
        # How features were computed elsewhere may be unknown, or a format that we never use.
        CheckConstraint(
            "precision IN ('float32', 'bfloat16')"
            " OR (starts_with(network, 'imported.') AND precision IN ('float16', 'unknown'))",
            name="precision_known",
        ),
        CheckConstraint(
            "weights_sha256 IS NOT NULL OR starts_with(network, 'colour.')"
            " OR starts_with(network, 'clinical.')"
            " OR (starts_with(network, 'imported.')"
            " AND network_options ->> 'features_sha256' IS NOT NULL"
            " AND network_options ->> 'features_sha256' ~ '^[0-9a-f]{64}$')",
            name="network_has_weights",
        ),
        CheckConstraint(
            "(parent_id IS NULL) = (trained_on_digest IS NULL)"
            " AND (parent_id IS NULL) = (training IS NULL)",
            name="training_told_whole",
        ),
        {"comment": "One row a model version; never updated (a trigger refuses it)"},
    )

    model_version_id: Mapped[Key]
    sha256: Mapped[Sha256] = mapped_column(
        unique=True, comment="SHA-256 over every column below but weights_source"
    )
    network: Mapped[str] = mapped_column(
        Text, comment="timm name, colour.* and clinical.* baselines, or imported.* and its maker"
    )
    network_options: Mapped[dict[str, Any]] = mapped_column(
        JSONB, comment="What was changed of the network's definition"
    )
    weights_sha256: Mapped[str | None] = mapped_column(
        Text,
        comment="SHA-256 over the weight tensors; NULL for baselines without weights, and for "
        "imported features of unknown weights, which features_sha256 of the options identifies",
    )
    weights_source: Mapped[str] = mapped_column(Text, comment="Where the weights came from")
    input_px: Mapped[int] = mapped_column(comment="Side of the network's input in pixels")
    mpp: Mapped[float | None] = mapped_column(
        DOUBLE_PRECISION, comment="Resolution the encoder is meant for, in µm per input pixel"
    )
    mean: Mapped[list[float]] = mapped_column(
        ARRAY(DOUBLE_PRECISION), comment="Channel means of the normalisation, scale 0-1"
    )
    std: Mapped[list[float]] = mapped_column(
        ARRAY(DOUBLE_PRECISION), comment="Channel standard deviations, scale 0-1"
    )
    interpolation: Mapped[str] = mapped_column(Text, comment="How tiles are resampled to input_px")
    pooling: Mapped[str] = mapped_column(Text, comment="How feature maps become one vector")
    precision: Mapped[str] = mapped_column(Text, comment="Number format of the computation")
    dim: Mapped[int] = mapped_column(comment="Number of features")
    licence: Mapped[str] = mapped_column(Text, comment="Licence of the weights")
    trained_on: Mapped[str] = mapped_column(Text, comment="Training data in words")
    trained_on_digest: Mapped[str | None] = mapped_column(
        ForeignKey(Dataset.digest), comment="The data set of this store it was fine-tuned on"
    )
    training: Mapped[dict[str, Any] | None] = mapped_column(
        JSONB(none_as_null=True), comment="Settings of the fine-tuning, seed included"
    )
    parent_id: Mapped[int | None] = mapped_column(
        ForeignKey("model_versions.model_version_id"),
        comment="The version that fine-tuning started from",
    )
    created_at: Mapped[Now]


class TrainingEpoch(Base):
    """What one epoch of a fine-tuning reached."""

    __tablename__ = "training_epochs"
    __table_args__ = (
        CheckConstraint("step IN (1, 2)", name="step_known"),
        CheckConstraint("epoch > 0", name="epoch_positive"),
        {"comment": "Training curves: step 1 trains the head, step 2 the unfrozen part"},
    )

    model_version_id: Mapped[int] = mapped_column(
        ForeignKey(ModelVersionRow.model_version_id, ondelete="CASCADE"), primary_key=True
    )
    step: Mapped[SmallInt] = mapped_column(
        primary_key=True, comment="1 trains the head, 2 the unfrozen part"
    )
    epoch: Mapped[SmallInt] = mapped_column(primary_key=True, comment="From 1 within the step")
    train_loss: Mapped[Double] = mapped_column(comment="Cross-entropy in nats, augmented tiles")
    train_accuracy: Mapped[Double] = mapped_column(comment="Share of training tiles, 0-1")
    validation_loss: Mapped[float | None] = mapped_column(
        DOUBLE_PRECISION, comment="Cross-entropy in nats; NULL where no tile was held out"
    )
    validation_accuracy: Mapped[float | None] = mapped_column(
        DOUBLE_PRECISION, comment="Share of held-out tiles, 0-1; NULL where none was held out"
    )
    seconds: Mapped[Double] = mapped_column(comment="Wall time of the epoch in seconds")


class StudyEncoder(Base):
    """Which version a study's encoder name stands for now."""

    __tablename__ = "study_encoders"
    __table_args__ = (
        not_empty("study"),
        not_empty("encoder"),
        is_sha256("recipe_sha256"),
        {"comment": "A study's encoder names and the model versions they stand for now"},
    )

    study: Mapped[str] = mapped_column(Text, primary_key=True, comment="Name of the study")
    encoder: Mapped[str] = mapped_column(
        Text, primary_key=True, comment="The encoder's name in the study"
    )
    model_version_id: Mapped[int] = mapped_column(ForeignKey(ModelVersionRow.model_version_id))
    recipe_sha256: Mapped[Sha256] = mapped_column(
        comment="SHA-256 over what the study asked for: tells whether that has changed since"
    )
    updated_at: Mapped[Now] = mapped_column(
        comment="When the name last came to stand for this version"
    )


class Embedding(Base):
    """One tile's features under one model version.

    The table is partitioned by model version. Each partition checks its own dimension, so
    vectors of two versions can neither mix nor be of the wrong length.
    """

    __tablename__ = "embeddings"
    __table_args__ = {
        "postgresql_partition_by": "LIST (model_version_id)",
        "comment": "Features of tiles; one partition a model version, never updated",
    }

    model_version_id: Mapped[int] = mapped_column(
        ForeignKey(ModelVersionRow.model_version_id), primary_key=True
    )
    tile_id: Mapped[int] = mapped_column(ForeignKey(Tile.tile_id), primary_key=True)
    embedding: Mapped[Any] = mapped_column(
        HALFVEC(), nullable=False, comment="Features in half precision, model_versions.dim of them"
    )


class PatientFeature(Base):
    """A patient's features: the tiles' embeddings pooled in SQL."""

    __tablename__ = "patient_features"
    __table_args__ = (
        CheckConstraint("pooling IN ('mean')", name="pooling_known"),
        CheckConstraint("n_tiles > 0 AND n_slides > 0", name="counts_positive"),
        {"comment": "One row a patient, model version, data set and pooling"},
    )

    dataset_id: Mapped[int] = mapped_column(
        ForeignKey(Dataset.dataset_id, ondelete="CASCADE"), primary_key=True
    )
    model_version_id: Mapped[int] = mapped_column(
        ForeignKey(ModelVersionRow.model_version_id), primary_key=True
    )
    pooling: Mapped[str] = mapped_column(Text, primary_key=True, comment="mean over tiles")
    patient_id: Mapped[str] = mapped_column(ForeignKey(Patient.patient_id), primary_key=True)
    embedding: Mapped[Any] = mapped_column(
        HALFVEC(), nullable=False, comment="Pooled features, model_versions.dim of them"
    )
    n_tiles: Mapped[int] = mapped_column(comment="Tiles that were pooled")
    n_slides: Mapped[int] = mapped_column(comment="Slides (or images) that they come from")
