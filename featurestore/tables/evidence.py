"""What stands behind a comparison: further tests, and whether something else explains it."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Computed,
    ForeignKey,
    ForeignKeyConstraint,
    SmallInteger,
    Text,
)
from sqlalchemy.dialects.postgresql import DOUBLE_PRECISION
from sqlalchemy.orm import Mapped, mapped_column

from featurestore.tables.base import Base, Double, Now, SmallInt
from featurestore.tables.results import Experiment, of_experiment_encoder

_FIRST = "Name of the first encoder in the study"
_SECOND = "Name of the second encoder in the study"
_TARGET = "all, a class or a gene"
_METRIC = "accuracy, auroc, …"


def _of_pair(table: str) -> tuple[ForeignKeyConstraint, ...]:
    """Both encoders are of the row's experiment."""
    return tuple(
        ForeignKeyConstraint(
            ["experiment_id", name],
            ["experiment_encoders.experiment_id", "experiment_encoders.encoder"],
            name=f"fk_{table}_{name}",
            ondelete="CASCADE",
        )
        for name in ("encoder_a", "encoder_b")
    )


class ComparisonTest(Base):
    """A test of two encoders that rests on more than the scores of splits."""

    __tablename__ = "comparison_tests"
    __table_args__ = (
        *_of_pair("comparison_tests"),
        CheckConstraint("test IN ('jackknife', 'bootstrap', 'delong')", name="test_known"),
        CheckConstraint("encoder_a <> encoder_b", name="two_encoders"),
        CheckConstraint("p BETWEEN 0 AND 1", name="p_range"),
        CheckConstraint("standard_error >= 0 AND ci_low <= ci_high", name="error_possible"),
        CheckConstraint("n_patients > 0", name="n_patients_positive"),
        CheckConstraint(
            "(test = 'jackknife') = (variance_tested IS NOT NULL) "
            "AND (test = 'jackknife') = (variance_pairs IS NOT NULL)",
            name="variances_of_jackknife",
        ),
        {"comment": "Further tests of a comparison; comparisons.test says which one is reported"},
    )

    experiment_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    target: Mapped[str] = mapped_column(Text, primary_key=True, comment=_TARGET)
    metric: Mapped[str] = mapped_column(Text, primary_key=True, comment=_METRIC)
    encoder_a: Mapped[str] = mapped_column(Text, primary_key=True, comment=_FIRST)
    encoder_b: Mapped[str] = mapped_column(Text, primary_key=True, comment=_SECOND)
    test: Mapped[str] = mapped_column(
        Text, primary_key=True, comment="jackknife, bootstrap or delong"
    )
    difference: Mapped[Double] = mapped_column(comment="B minus A, as this test takes it")
    standard_error: Mapped[Double] = mapped_column(comment="Of the difference")
    ci_low: Mapped[Double] = mapped_column(comment="Lower end of the 95 % interval")
    ci_high: Mapped[Double] = mapped_column(comment="Upper end of the 95 % interval")
    p: Mapped[Double] = mapped_column(comment="Two-sided")
    n_patients: Mapped[int] = mapped_column(comment="Patients that it rests on")
    variance_tested: Mapped[float | None] = mapped_column(
        DOUBLE_PRECISION, comment="Jackknife variance over who is tested; NULL of other tests"
    )
    variance_pairs: Mapped[float | None] = mapped_column(
        DOUBLE_PRECISION,
        comment="Variance of pairs of one tested and one trained on, of which the jackknife's "
        "error has half; NULL of other tests",
    )


class EncoderRank(Base):
    """Average rank of an encoder over the targets of an experiment (Demšar 2006)."""

    __tablename__ = "encoder_ranks"
    __table_args__ = (
        of_experiment_encoder("encoder_ranks"),
        CheckConstraint("mean_rank >= 1", name="rank_from_one"),
        CheckConstraint("p_f BETWEEN 0 AND 1", name="p_range"),
        {"comment": "Average ranks of three or more encoders; 1 is the best"},
    )

    experiment_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    model_version_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    metric: Mapped[str] = mapped_column(Text, primary_key=True, comment=_METRIC)
    mean_rank: Mapped[Double] = mapped_column(comment="Over the targets; 1 is the best")
    mean_score: Mapped[Double] = mapped_column(comment="Over the targets, in the metric's unit")
    critical_difference: Mapped[Double] = mapped_column(
        comment="Encoders whose ranks differ by less cannot be told apart (Nemenyi, 0.05)"
    )
    p_f: Mapped[Double] = mapped_column(
        comment="Iman and Davenport's p that all rank alike; too small over genes of one cohort"
    )
    n_targets: Mapped[int] = mapped_column(comment="Targets ranked")


class Robustness(Base):
    """Whether another explanation of an experiment's result was looked at, or why not."""

    __tablename__ = "robustness"
    __table_args__ = (
        CheckConstraint("kind IN ('folds', 'strata', 'added_value')", name="kind_known"),
        CheckConstraint("n_rows > 0 OR note <> ''", name="absence_explained"),
        {"comment": "Which checks of an experiment's robustness were made, and which could not be"},
    )

    experiment_id: Mapped[int] = mapped_column(
        ForeignKey(Experiment.experiment_id, ondelete="CASCADE"), primary_key=True
    )
    kind: Mapped[str] = mapped_column(
        Text, primary_key=True, comment="folds, strata or added_value"
    )
    n_rows: Mapped[int] = mapped_column(comment="Rows that it came to in the table of its name")
    note: Mapped[str] = mapped_column(Text, comment="What was left out, and why; else empty")
    created_at: Mapped[Now]


class FoldOptimism(Base):
    """A score under folds that are dealt at random, and under folds that keep groups whole."""

    __tablename__ = "fold_optimism"
    __table_args__ = (
        of_experiment_encoder("fold_optimism"),
        CheckConstraint("kept IN ('patient', 'site')", name="kept_known"),
        CheckConstraint("n_repeats > 0", name="n_repeats_positive"),
        {"comment": "Random folds beside folds that keep patients or sites whole"},
    )

    experiment_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    model_version_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    target: Mapped[str] = mapped_column(Text, primary_key=True, comment=_TARGET)
    metric: Mapped[str] = mapped_column(Text, primary_key=True, comment=_METRIC)
    kept: Mapped[str] = mapped_column(
        Text, comment="What the second kind of folds keeps whole: patient or site"
    )
    random_score: Mapped[Double] = mapped_column(comment="Mean score under random folds")
    kept_score: Mapped[Double] = mapped_column(comment="Mean score with groups kept whole")
    optimism: Mapped[Double] = mapped_column(
        Computed("random_score - kept_score", persisted=True),
        comment="random_score - kept_score: what random folds add",
    )
    n_repeats: Mapped[SmallInt] = mapped_column(
        comment="Repeats of the kind of folds that the experiment itself does not use"
    )


class StratumDifference(Base):
    """Two encoders among the patients of one clinical stratum."""

    __tablename__ = "stratum_differences"
    __table_args__ = (
        *_of_pair("stratum_differences"),
        CheckConstraint("encoder_a <> encoder_b", name="two_encoders"),
        CheckConstraint("p BETWEEN 0 AND 1 AND p_holm BETWEEN 0 AND 1", name="p_range"),
        CheckConstraint("n_patients > 0", name="n_patients_positive"),
        {"comment": "Differences by site, stage, sex and other clinical columns"},
    )

    experiment_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    target: Mapped[str] = mapped_column(Text, primary_key=True, comment="Gene symbol")
    metric: Mapped[str] = mapped_column(Text, primary_key=True, comment="pearson_r or auroc")
    encoder_a: Mapped[str] = mapped_column(Text, primary_key=True, comment=_FIRST)
    encoder_b: Mapped[str] = mapped_column(Text, primary_key=True, comment=_SECOND)
    variable: Mapped[str] = mapped_column(
        Text, primary_key=True, comment="Clinical column, or site"
    )
    stratum: Mapped[str] = mapped_column(Text, primary_key=True, comment="Value of the column")
    n_patients: Mapped[int] = mapped_column(comment="Patients in the stratum")
    mean_a: Mapped[Double] = mapped_column(comment="Score of encoder_a among them")
    mean_b: Mapped[Double] = mapped_column(comment="Score of encoder_b among them")
    difference: Mapped[Double] = mapped_column(comment="mean_b - mean_a")
    ci_low: Mapped[Double] = mapped_column(comment="Lower end of the 95 % bootstrap interval")
    ci_high: Mapped[Double] = mapped_column(comment="Upper end of the 95 % bootstrap interval")
    p: Mapped[Double] = mapped_column(comment="Two-sided, patient bootstrap")
    p_holm: Mapped[Double] = mapped_column(comment="Holm over the strata of the column")


class AddedValueRow(Base):
    """What an encoder's features add to the clinical variables, for one gene."""

    __tablename__ = "added_value"
    __table_args__ = (
        of_experiment_encoder("added_value"),
        CheckConstraint("p BETWEEN 0 AND 1 AND q BETWEEN 0 AND 1", name="p_and_q_range"),
        CheckConstraint("n_permutations > 0 AND n_patients > 0", name="counts_positive"),
        {"comment": "Scores of clinical variables without and with features"},
    )

    experiment_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    model_version_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    target: Mapped[str] = mapped_column(Text, primary_key=True, comment="Gene symbol")
    metric: Mapped[str] = mapped_column(Text, primary_key=True, comment="pearson_r or auroc")
    clinical_score: Mapped[Double] = mapped_column(comment="Mean score of age, sex and stage alone")
    combined_score: Mapped[Double] = mapped_column(comment="Mean score with the features added")
    gain: Mapped[Double] = mapped_column(
        Computed("combined_score - clinical_score", persisted=True),
        comment="combined_score - clinical_score",
    )
    null_low: Mapped[Double] = mapped_column(comment="2.5 % point of the gain by chance")
    null_high: Mapped[Double] = mapped_column(comment="97.5 % point of the gain by chance")
    p: Mapped[Double] = mapped_column(comment="One-sided: how often chance gains as much")
    q: Mapped[Double] = mapped_column(comment="Benjamini-Hochberg over the encoder's genes")
    n_patients: Mapped[int] = mapped_column(comment="Patients with a value and clinical data")
    n_permutations: Mapped[SmallInt] = mapped_column(
        SmallInteger, comment="Permutations of the features' rows"
    )
