"""Experiments with their scores, predictions and comparisons."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, DOUBLE_PRECISION, JSONB, REAL
from sqlalchemy.orm import Mapped, mapped_column

from featurestore.tables.base import (
    Base,
    BigInt,
    Double,
    Key,
    Now,
    Sha256,
    SmallInt,
    is_sha256,
    not_empty,
)
from featurestore.tables.encoders import ModelVersionRow
from featurestore.tables.tissue import Dataset, Patient, Tile


class Experiment(Base):
    """One question put to one data set: the settings and inputs that its results rest on."""

    __tablename__ = "experiments"
    __table_args__ = (
        is_sha256("digest"),
        not_empty("study"),
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
    task: Mapped[str] = mapped_column(Text, comment="tissue, retrieval, expression or mutation")
    dataset_digest: Mapped[str] = mapped_column(ForeignKey(Dataset.digest))
    seed: Mapped[BigInt] = mapped_column(comment="Seed of the splits")
    n_folds: Mapped[SmallInt] = mapped_column(comment="Folds a repeat")
    n_repeats: Mapped[SmallInt] = mapped_column(comment="Repeats of the cross-validation")
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


def of_experiment_encoder(table: str) -> ForeignKeyConstraint:
    """The row belongs to a model version that its experiment compares."""
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
        of_experiment_encoder("cv_scores"),
        CheckConstraint("n_train > 0 AND n_test > 0", name="split_not_empty"),
        {"comment": "Scores per split: one row a target, model version, repeat, fold and metric"},
    )

    experiment_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    model_version_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    target: Mapped[str] = mapped_column(Text, primary_key=True, comment="all, a class or a gene")
    metric: Mapped[str] = mapped_column(Text, primary_key=True, comment="accuracy, auroc, …")
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
        of_experiment_encoder("cv_predictions"),
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
        CheckConstraint("test IN ('corrected_t', 'jackknife')", name="test_known"),
        CheckConstraint("p BETWEEN 0 AND 1 AND p_holm BETWEEN p AND 1", name="p_range"),
        CheckConstraint("q BETWEEN 0 AND 1", name="q_range"),
        CheckConstraint("standard_error >= 0", name="standard_error_range"),
        CheckConstraint(
            "num_nonnulls(rope, p_a_better, p_equivalent, p_b_better) IN (0, 4) "
            "AND abs(p_a_better + p_equivalent + p_b_better - 1) < 1e-6",
            name="posterior_whole",
        ),
        {"comment": "Paired comparisons; the naive p-value never stands without the corrected"},
    )

    experiment_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    task: Mapped[str] = mapped_column(Text, comment="tissue, retrieval, expression or mutation")
    target: Mapped[str] = mapped_column(Text, primary_key=True, comment="all, a class or a gene")
    metric: Mapped[str] = mapped_column(Text, primary_key=True, comment="accuracy, auroc, …")
    encoder_a: Mapped[str] = mapped_column(
        Text, primary_key=True, comment="Name of the first encoder in the study"
    )
    encoder_b: Mapped[str] = mapped_column(
        Text, primary_key=True, comment="Name of the second encoder in the study"
    )
    mean_a: Mapped[Double] = mapped_column(comment="Mean of encoder_a over the splits")
    mean_b: Mapped[Double] = mapped_column(comment="Mean of encoder_b over the splits")
    difference: Mapped[Double] = mapped_column(comment="mean_b - mean_a")
    test: Mapped[str] = mapped_column(
        Text,
        comment="The test reported: corrected_t, or jackknife (further tests: comparison_tests)",
    )
    standard_error: Mapped[Double] = mapped_column(comment="Of the difference, by that test")
    ci_low: Mapped[Double] = mapped_column(comment="Lower end of its 95 % interval")
    ci_high: Mapped[Double] = mapped_column(comment="Upper end of its 95 % interval")
    p: Mapped[Double] = mapped_column(comment="Its two-sided p-value")
    q: Mapped[float | None] = mapped_column(
        DOUBLE_PRECISION,
        comment="Benjamini-Hochberg of p over the genes of the pair and metric; NULL where there "
        "is one question only",
    )
    p_holm: Mapped[Double] = mapped_column(
        comment="Holm of p over the pairs of encoders of the target and metric"
    )
    rope: Mapped[float | None] = mapped_column(
        DOUBLE_PRECISION,
        comment="Differences up to this size count as equivalent; NULL if not computed yet",
    )
    p_a_better: Mapped[float | None] = mapped_column(
        DOUBLE_PRECISION, comment="Posterior probability that A is better by more than rope"
    )
    p_equivalent: Mapped[float | None] = mapped_column(
        DOUBLE_PRECISION, comment="Posterior probability of a difference within rope"
    )
    p_b_better: Mapped[float | None] = mapped_column(
        DOUBLE_PRECISION, comment="Posterior probability that B is better by more than rope"
    )
    t_naive: Mapped[Double] = mapped_column(comment="Paired t over splits taken as independent")
    p_naive: Mapped[Double] = mapped_column(comment="Its two-sided p-value: far too small")
    t_corrected: Mapped[Double] = mapped_column(comment="Corrected resampled t (Nadeau & Bengio)")
    p_corrected: Mapped[Double] = mapped_column(comment="Its two-sided p-value")
    n_splits: Mapped[int] = mapped_column(comment="Splits on which both have the metric")
    n_repeats: Mapped[SmallInt] = mapped_column(comment="Repeats of the cross-validation")
    n_folds: Mapped[SmallInt] = mapped_column(comment="Folds a repeat")
    leakage_checked: Mapped[bool] = mapped_column(comment="As in experiments")
    leakage_note: Mapped[str] = mapped_column(Text, comment="As in experiments")
