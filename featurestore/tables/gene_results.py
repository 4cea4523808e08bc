"""Results of genes: predictions by patient, predictability, and counts of better genes."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    SmallInteger,
    Text,
)
from sqlalchemy.dialects.postgresql import ARRAY, REAL
from sqlalchemy.orm import Mapped, mapped_column

from featurestore.tables.base import Base, Double
from featurestore.tables.results import of_experiment_encoder
from featurestore.tables.tissue import Patient


class CvGenePrediction(Base):
    """One patient's out-of-fold predictions of one gene, one a repeat.

    Genes × patients × repeats would be tens of millions of rows; an array a patient holds
    the same and is read as a whole.
    """

    __tablename__ = "cv_gene_predictions"
    __table_args__ = (
        of_experiment_encoder("cv_gene_predictions"),
        CheckConstraint("cardinality(predicted) = cardinality(folds)", name="a_fold_a_prediction"),
        {"comment": "Out-of-fold predictions of genes; element i is repeat i - 1"},
    )

    experiment_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    model_version_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    target: Mapped[str] = mapped_column(Text, primary_key=True, comment="Gene symbol")
    patient_id: Mapped[str] = mapped_column(ForeignKey(Patient.patient_id), primary_key=True)
    observed: Mapped[float] = mapped_column(
        REAL, comment="log2(x + 1) expression, or 1 mutated and 0 not"
    )
    predicted: Mapped[list[float]] = mapped_column(
        ARRAY(REAL), comment="log2(x + 1) expression, or probability of a mutation"
    )
    folds: Mapped[list[int]] = mapped_column(
        ARRAY(SmallInteger), comment="The fold that held the patient out, in each repeat"
    )


class Predictability(Base):
    """Whether an encoder's features predict a gene at all, by a permutation test."""

    __tablename__ = "predictability"
    __table_args__ = (
        of_experiment_encoder("predictability"),
        CheckConstraint("p BETWEEN 0 AND 1 AND q BETWEEN 0 AND 1", name="p_and_q_range"),
        CheckConstraint("n_permutations > 0", name="n_permutations_positive"),
        {"comment": "Which genes are predictable: one row a gene and model version"},
    )

    experiment_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    model_version_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    target: Mapped[str] = mapped_column(Text, primary_key=True, comment="Gene symbol")
    r: Mapped[Double] = mapped_column(comment="Mean Pearson correlation within test folds")
    null_mean: Mapped[Double] = mapped_column(comment="The same under permuted patients, mean")
    null_sd: Mapped[Double] = mapped_column(comment="The same under permuted patients, spread")
    p: Mapped[Double] = mapped_column(comment="One-sided, uncorrected")
    q: Mapped[Double] = mapped_column(comment="Benjamini-Hochberg over the encoder's genes")
    n_permutations: Mapped[int] = mapped_column(comment="Number of permutations")


class BetterCount(Base):
    """How many genes one encoder predicts better than another, and how many by chance."""

    __tablename__ = "better_counts"
    __table_args__ = (
        ForeignKeyConstraint(
            ["experiment_id", "encoder_a"],
            ["experiment_encoders.experiment_id", "experiment_encoders.encoder"],
            name="fk_better_counts_encoder_a",
            ondelete="CASCADE",
        ),
        ForeignKeyConstraint(
            ["experiment_id", "encoder_b"],
            ["experiment_encoders.experiment_id", "experiment_encoders.encoder"],
            name="fk_better_counts_encoder_b",
            ondelete="CASCADE",
        ),
        CheckConstraint("genes IN ('all', 'predictable')", name="genes_known"),
        CheckConstraint("n_better_b BETWEEN 0 AND n_genes", name="count_possible"),
        CheckConstraint("p_swap BETWEEN 0 AND 1", name="p_swap_range"),
        {"comment": "The paper's sentences: of n genes, m better with encoder_b"},
    )

    experiment_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    encoder_a: Mapped[str] = mapped_column(
        Text, primary_key=True, comment="Name of the first encoder in the study"
    )
    encoder_b: Mapped[str] = mapped_column(
        Text, primary_key=True, comment="Name of the second encoder in the study"
    )
    genes: Mapped[str] = mapped_column(
        Text,
        primary_key=True,
        comment="all that were tested, or those predictable (q < 0.05) with either encoder",
    )
    n_genes: Mapped[int] = mapped_column(comment="Genes that were counted")
    n_better_b: Mapped[int] = mapped_column(comment="Those with a higher mean score with encoder_b")
    null_median: Mapped[Double] = mapped_column(comment="n_better_b if nothing were there")
    null_low: Mapped[Double] = mapped_column(comment="2.5 % point of that")
    null_high: Mapped[Double] = mapped_column(comment="97.5 % point of that")
    p_swap: Mapped[Double] = mapped_column(comment="Two-sided, encoders exchanged by patient")
