"""Every table of the store, with its units and rules in the database itself.

The rules are constraints, not habits: what this file does not allow cannot be written by
any program, ours or another's. ``migrations/`` says how a database comes to look so.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pgvector.sqlalchemy import HALFVEC
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    MetaData,
    SmallInteger,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, DOUBLE_PRECISION, JSONB, REAL
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

Key = Annotated[int, mapped_column(BigInteger, Identity(always=True), primary_key=True)]
BigInt = Annotated[int, mapped_column(BigInteger)]
SmallInt = Annotated[int, mapped_column(SmallInteger)]
Double = Annotated[float, mapped_column(DOUBLE_PRECISION)]
Sha256 = Annotated[str, mapped_column(Text)]
Now = Annotated[
    datetime, mapped_column(DateTime(timezone=True), server_default=func.now(), nullable=False)
]


def _is_sha256(column: str) -> CheckConstraint:
    return CheckConstraint(f"{column} ~ '^[0-9a-f]{{64}}$'", name=f"{column}_is_hex")


def _not_empty(column: str) -> CheckConstraint:
    return CheckConstraint(f"{column} <> ''", name=f"{column}_not_empty")


def _plausible_mpp() -> CheckConstraint:
    # The same bounds as for slides: outside them a resolution is a typing error.
    return CheckConstraint("mpp BETWEEN 0.05 AND 10", name="mpp_plausible")


class Base(DeclarativeBase):
    """Declarative base; every constraint gets a name that an error message can be read by."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_N_label)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class Patient(Base):
    """A person. Everything that must not stand on two sides of a split hangs on this key."""

    __tablename__ = "patients"
    __table_args__ = (
        _not_empty("patient_id"),
        {"comment": "One row a patient; the unit that cross-validation keeps whole"},
    )

    patient_id: Mapped[str] = mapped_column(
        Text, primary_key=True, comment="The source's own patient identifier, e.g. TCGA-05-4244"
    )
    tissue_source_site: Mapped[str | None] = mapped_column(
        Text, comment="Hospital or biobank that gave the tissue; NULL where unknown"
    )


class Dataset(Base):
    """A set of labelled tiles, as it was read: other content is another row."""

    __tablename__ = "datasets"
    __table_args__ = (
        _is_sha256("digest"),
        _is_sha256("listing_sha256"),
        _not_empty("name"),
        CheckConstraint("n_tiles > 0", name="n_tiles_positive"),
        {"comment": "One row a set of labelled tiles; identified by its content"},
    )

    dataset_id: Mapped[Key]
    digest: Mapped[Sha256] = mapped_column(
        unique=True, comment="SHA-256 over every tile's digest, label and patient"
    )
    name: Mapped[str] = mapped_column(Text, comment="Last two parts of the folder's path")
    root: Mapped[str] = mapped_column(Text, comment="Folder where its files were last seen")
    read_at: Mapped[Now] = mapped_column(comment="When its files were last read")
    listing_sha256: Mapped[Sha256] = mapped_column(
        comment="SHA-256 over paths, sizes and times of the folder's files when last read"
    )
    n_tiles: Mapped[BigInt] = mapped_column(comment="Number of distinct tiles")
    created_at: Mapped[Now]


class Tile(Base):
    """One image of tissue, told by its pixels: the same image in two folders is one row."""

    __tablename__ = "tiles"
    __table_args__ = (
        _is_sha256("sha256"),
        _plausible_mpp(),
        CheckConstraint("width_px > 0 AND height_px > 0", name="size_positive"),
        {"comment": "One row a distinct image; belongs to the store, not to a study"},
    )

    tile_id: Mapped[Key]
    sha256: Mapped[Sha256] = mapped_column(
        unique=True, comment="SHA-256 over size and decoded RGB pixels"
    )
    width_px: Mapped[int] = mapped_column(comment="Width in pixels")
    height_px: Mapped[int] = mapped_column(comment="Height in pixels")
    mpp: Mapped[float | None] = mapped_column(
        DOUBLE_PRECISION, comment="Resolution in µm per pixel; NULL where the source tells none"
    )
    patient_id: Mapped[str | None] = mapped_column(
        ForeignKey(Patient.patient_id), index=True, comment="NULL where the source names none"
    )


class DatasetTile(Base):
    """A tile's place in a data set: its label there and the file that holds it."""

    __tablename__ = "dataset_tiles"
    __table_args__ = (
        _not_empty("label"),
        {"comment": "Which tiles a data set holds, with which label"},
    )

    dataset_id: Mapped[int] = mapped_column(
        ForeignKey(Dataset.dataset_id, ondelete="CASCADE"), primary_key=True
    )
    tile_id: Mapped[int] = mapped_column(ForeignKey(Tile.tile_id), primary_key=True, index=True)
    label: Mapped[str] = mapped_column(Text, comment="Class as annotated in this data set")
    path: Mapped[str] = mapped_column(Text, comment="File, relative to datasets.root")


class ModelVersionRow(Base):
    """An encoder's exact content; see :class:`featurestore.model_versions.ModelVersion`."""

    __tablename__ = "model_versions"
    __table_args__ = (
        _is_sha256("sha256"),
        _is_sha256("weights_sha256"),
        _plausible_mpp(),
        CheckConstraint("input_px > 0", name="input_px_positive"),
        CheckConstraint("dim BETWEEN 1 AND 16000", name="dim_storable"),
        CheckConstraint("precision IN ('float32', 'bfloat16')", name="precision_known"),
        CheckConstraint(
            "weights_sha256 IS NOT NULL OR starts_with(network, 'colour.')",
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
    network: Mapped[str] = mapped_column(Text, comment="timm name, or colour.* baseline")
    network_options: Mapped[dict[str, Any]] = mapped_column(
        JSONB, comment="What was changed of the network's definition"
    )
    weights_sha256: Mapped[str | None] = mapped_column(
        Text, comment="SHA-256 over the weight tensors; NULL for baselines without weights"
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
    step: Mapped[SmallInt] = mapped_column(primary_key=True)
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
        _not_empty("study"),
        _not_empty("encoder"),
        _is_sha256("recipe_sha256"),
        {"comment": "A study's encoder names and the model versions they stand for now"},
    )

    study: Mapped[str] = mapped_column(Text, primary_key=True)
    encoder: Mapped[str] = mapped_column(Text, primary_key=True)
    model_version_id: Mapped[int] = mapped_column(ForeignKey(ModelVersionRow.model_version_id))
    recipe_sha256: Mapped[Sha256] = mapped_column(
        comment="SHA-256 over what the study asked for: tells whether that has changed since"
    )
    updated_at: Mapped[Now]


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


class Experiment(Base):
    """One question put to one data set: the settings and inputs that its results rest on."""

    __tablename__ = "experiments"
    __table_args__ = (
        _is_sha256("digest"),
        _not_empty("study"),
        UniqueConstraint("experiment_id", "task"),
        CheckConstraint("n_folds >= 2 AND n_repeats >= 1", name="splits_possible"),
        CheckConstraint("leakage_checked OR leakage_note <> ''", name="leakage_explained"),
        Index(
            "uq_experiments_current",
            "study",
            "task",
            unique=True,
            postgresql_where=text("is_current"),
        ),
        {"comment": "One row a cross-validated question; results hang on it"},
    )

    experiment_id: Mapped[Key]
    digest: Mapped[Sha256] = mapped_column(
        unique=True, comment="SHA-256 over study, task, settings, data set and model versions"
    )
    study: Mapped[str] = mapped_column(Text, comment="Name of the study")
    task: Mapped[str] = mapped_column(Text, comment="tissue, expression or mutation")
    dataset_digest: Mapped[str] = mapped_column(ForeignKey(Dataset.digest))
    seed: Mapped[BigInt] = mapped_column(comment="Seed of the splits")
    n_folds: Mapped[SmallInt]
    n_repeats: Mapped[SmallInt]
    settings: Mapped[dict[str, Any]] = mapped_column(JSONB, comment="Everything else that was set")
    classes: Mapped[list[str] | None] = mapped_column(
        ARRAY(Text), comment="Class names in the order of cv_predictions' indices (from 0)"
    )
    leakage_checked: Mapped[bool] = mapped_column(
        comment="True where folds kept every patient whole; false where patients are unknown"
    )
    leakage_note: Mapped[str] = mapped_column(Text, comment="Why not checked; empty where it was")
    is_current: Mapped[bool] = mapped_column(
        comment="True for the experiment that the study file describes now"
    )
    dagster_run_id: Mapped[str | None] = mapped_column(Text, comment="Run that computed it")
    created_at: Mapped[Now]


class ExperimentEncoder(Base):
    """Which model version stood for an encoder in an experiment."""

    __tablename__ = "experiment_encoders"
    __table_args__ = (
        UniqueConstraint("experiment_id", "encoder"),
        {"comment": "The model versions that an experiment compares"},
    )

    experiment_id: Mapped[int] = mapped_column(
        ForeignKey(Experiment.experiment_id, ondelete="CASCADE"), primary_key=True
    )
    model_version_id: Mapped[int] = mapped_column(
        ForeignKey(ModelVersionRow.model_version_id), primary_key=True
    )
    encoder: Mapped[str] = mapped_column(Text, comment="The encoder's name in the study")
    position: Mapped[SmallInt] = mapped_column(comment="Order in the study file, from 0")
    n_not_converged: Mapped[int] = mapped_column(
        comment="Splits whose estimator stopped before it converged: their scores are doubtful"
    )


def _of_experiment_encoder(table: str) -> ForeignKeyConstraint:
    # Named by hand: the convention's name would be longer than Postgres keeps (63 bytes).
    return ForeignKeyConstraint(
        ["experiment_id", "model_version_id"],
        ["experiment_encoders.experiment_id", "experiment_encoders.model_version_id"],
        name=f"fk_{table}_experiment_encoder",
        ondelete="CASCADE",
    )


class CvScore(Base):
    """One metric of one model version on one split."""

    __tablename__ = "cv_scores"
    __table_args__ = (
        _of_experiment_encoder("cv_scores"),
        CheckConstraint("n_train > 0 AND n_test > 0", name="split_not_empty"),
        {"comment": "Scores per split: one row a target, model version, repeat, fold and metric"},
    )

    experiment_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    model_version_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    target: Mapped[str] = mapped_column(Text, primary_key=True, comment="all, a class or a gene")
    metric: Mapped[str] = mapped_column(Text, primary_key=True)
    repeat: Mapped[SmallInt] = mapped_column(primary_key=True, comment="From 0")
    fold: Mapped[SmallInt] = mapped_column(primary_key=True, comment="From 0 within the repeat")
    value: Mapped[float | None] = mapped_column(
        DOUBLE_PRECISION, comment="The score; NULL where it is undefined on the split"
    )
    n_train: Mapped[int] = mapped_column(comment="Training tiles or patients of the split")
    n_test: Mapped[int] = mapped_column(comment="Test tiles or patients of the split")


class CvPrediction(Base):
    """One out-of-fold prediction: enough to compute any other statistic later."""

    __tablename__ = "cv_predictions"
    __table_args__ = (
        _of_experiment_encoder("cv_predictions"),
        CheckConstraint("num_nonnulls(tile_id, patient_id) = 1", name="one_unit"),
        Index(
            "uq_cv_predictions_unit",
            "experiment_id",
            "model_version_id",
            "target",
            "repeat",
            "tile_id",
            "patient_id",
            unique=True,
            postgresql_nulls_not_distinct=True,
        ),
        {"comment": "Out-of-fold predictions; one row a tile (or patient), repeat and version"},
    )
    # An ORM needs a key; the database keeps the unique index above, which is the same key.
    __mapper_args__ = {
        "primary_key": [
            "experiment_id",
            "model_version_id",
            "target",
            "repeat",
            "tile_id",
            "patient_id",
        ]
    }

    experiment_id: Mapped[BigInt]
    model_version_id: Mapped[BigInt]
    target: Mapped[str] = mapped_column(Text, comment="all, or a gene")
    repeat: Mapped[SmallInt] = mapped_column(comment="From 0")
    fold: Mapped[SmallInt] = mapped_column(comment="The fold that held the unit out")
    tile_id: Mapped[int | None] = mapped_column(ForeignKey(Tile.tile_id))
    patient_id: Mapped[str | None] = mapped_column(ForeignKey(Patient.patient_id))
    observed: Mapped[Double] = mapped_column(comment="Class index, 0/1, or value")
    predicted: Mapped[Double] = mapped_column(comment="Class index, 0/1, or value")
    probabilities: Mapped[list[float] | None] = mapped_column(
        ARRAY(REAL), comment="Class probabilities in the order of experiments.classes"
    )


class Comparison(Base):
    """Two encoders held against each other on one target: the answer a study is after."""

    __tablename__ = "comparisons"
    __table_args__ = (
        ForeignKeyConstraint(
            ["experiment_id", "task"],
            ["experiments.experiment_id", "experiments.task"],
            ondelete="CASCADE",
        ),
        ForeignKeyConstraint(
            ["experiment_id", "encoder_a"],
            ["experiment_encoders.experiment_id", "experiment_encoders.encoder"],
            name="fk_comparisons_encoder_a",
        ),
        ForeignKeyConstraint(
            ["experiment_id", "encoder_b"],
            ["experiment_encoders.experiment_id", "experiment_encoders.encoder"],
            name="fk_comparisons_encoder_b",
        ),
        CheckConstraint("encoder_a <> encoder_b", name="two_encoders"),
        CheckConstraint("ci_low <= difference AND difference <= ci_high", name="interval_holds"),
        CheckConstraint("p_naive BETWEEN 0 AND 1", name="p_naive_range"),
        CheckConstraint("p_corrected BETWEEN 0 AND 1", name="p_corrected_range"),
        {"comment": "Paired comparisons; the naive p-value never stands without the corrected"},
    )

    experiment_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    task: Mapped[str] = mapped_column(Text, comment="tissue, expression or mutation")
    target: Mapped[str] = mapped_column(Text, primary_key=True, comment="all, a class or a gene")
    metric: Mapped[str] = mapped_column(Text, primary_key=True)
    encoder_a: Mapped[str] = mapped_column(Text, primary_key=True)
    encoder_b: Mapped[str] = mapped_column(Text, primary_key=True)
    mean_a: Mapped[Double] = mapped_column(comment="Mean of encoder_a over the splits")
    mean_b: Mapped[Double] = mapped_column(comment="Mean of encoder_b over the splits")
    difference: Mapped[Double] = mapped_column(comment="mean_b - mean_a")
    ci_low: Mapped[Double] = mapped_column(comment="95 % interval, corrected variance")
    ci_high: Mapped[Double] = mapped_column(comment="95 % interval, corrected variance")
    t_naive: Mapped[Double] = mapped_column(comment="Paired t over splits taken as independent")
    p_naive: Mapped[Double] = mapped_column(comment="Its two-sided p-value: far too small")
    t_corrected: Mapped[Double] = mapped_column(comment="Corrected resampled t (Nadeau & Bengio)")
    p_corrected: Mapped[Double] = mapped_column(comment="Its two-sided p-value")
    n_splits: Mapped[int] = mapped_column(comment="Splits on which both have the metric")
    n_repeats: Mapped[SmallInt]
    n_folds: Mapped[SmallInt]
    leakage_checked: Mapped[bool] = mapped_column(comment="As in experiments")
    leakage_note: Mapped[str] = mapped_column(Text, comment="As in experiments")


class RejectRow(Base):
    """The ledger: everything that was left out, where and why."""

    __tablename__ = "rejects"
    __table_args__ = (
        Index(
            "uq_rejects_once",
            "study",
            "stage",
            "item",
            "reason",
            "run_id",
            unique=True,
            postgresql_nulls_not_distinct=True,
        ),
        {"comment": "What was left out, at which stage, why, and in which run"},
    )

    reject_id: Mapped[Key]
    study: Mapped[str] = mapped_column(Text)
    stage: Mapped[str] = mapped_column(Text, comment="ingest, embed, …")
    item: Mapped[str] = mapped_column(Text, comment="File, tile, patient or gene")
    reason: Mapped[str] = mapped_column(Text, comment="Why, and what to do about it")
    run_id: Mapped[str | None] = mapped_column(Text, comment="Dagster run; NULL from a notebook")
    created_at: Mapped[Now]
