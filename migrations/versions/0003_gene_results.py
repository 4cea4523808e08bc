"""Results of genes, and one view on everything that is known of a patient.

A study of genes asks hundreds of questions at once, so comparisons get a q-value, and the
paper's sentences ("of n genes, m better") get a table with what chance would give. A study
remembers which data set each of its sources came to.

Revision ID: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


_VIEW = (
    """
    CREATE VIEW patient_genes AS
    SELECT patients.patient_id,
           patients.tissue_source_site,
           model_versions.model_version_id,
           model_versions.network,
           model_versions.trained_on,
           patient_features.embedding AS features,
           patient_features.n_tiles,
           patient_features.n_slides,
           genes.symbol AS gene,
           expression.value AS expression,
           mutation_status.mutated,
           patient_features.dataset_id,
           expression.source_id AS expression_source_id,
           mutation_status.source_id AS mutation_source_id
      FROM patient_features
      JOIN patients USING (patient_id)
      JOIN model_versions USING (model_version_id)
     CROSS JOIN genes
      LEFT JOIN expression
             ON expression.gene_id = genes.gene_id
            AND expression.patient_number = patients.patient_number
      LEFT JOIN mutation_status
             ON mutation_status.gene = genes.symbol
            AND mutation_status.patient_id = patients.patient_id
    """,
    "COMMENT ON VIEW patient_genes IS"
    " 'Patients with their features and any gene''s expression and mutation'",
    "COMMENT ON COLUMN patient_genes.features IS 'Mean over the patient''s tiles'",
    "COMMENT ON COLUMN patient_genes.n_tiles IS 'Tiles that were pooled'",
    "COMMENT ON COLUMN patient_genes.n_slides IS 'Slides (or images) that they come from'",
    "COMMENT ON COLUMN patient_genes.expression IS"
    " 'log2(x + 1) of the table''s unit; NULL where not measured'",
    "COMMENT ON COLUMN patient_genes.mutated IS"
    " 'At least one non-silent variant; NULL where not sequenced'",
)


def upgrade() -> None:
    op.create_table(
        "better_counts",
        sa.Column("experiment_id", sa.BigInteger(), nullable=False),
        sa.Column("encoder_a", sa.Text(), nullable=False),
        sa.Column("encoder_b", sa.Text(), nullable=False),
        sa.Column(
            "genes",
            sa.Text(),
            nullable=False,
            comment="all that were tested, or those predictable (q < 0.05) with either encoder",
        ),
        sa.Column("n_genes", sa.Integer(), nullable=False, comment="Genes that were counted"),
        sa.Column(
            "n_better_b",
            sa.Integer(),
            nullable=False,
            comment="Those with a higher mean score with encoder_b",
        ),
        sa.Column(
            "null_median",
            sa.DOUBLE_PRECISION(),
            nullable=False,
            comment="n_better_b if nothing were there",
        ),
        sa.Column("null_low", sa.DOUBLE_PRECISION(), nullable=False, comment="2.5 % point of that"),
        sa.Column(
            "null_high", sa.DOUBLE_PRECISION(), nullable=False, comment="97.5 % point of that"
        ),
        sa.Column(
            "p_swap",
            sa.DOUBLE_PRECISION(),
            nullable=False,
            comment="Two-sided, encoders exchanged by patient",
        ),
        sa.CheckConstraint(
            "genes IN ('all', 'predictable')", name=op.f("ck_better_counts_genes_known")
        ),
        sa.CheckConstraint(
            "n_better_b BETWEEN 0 AND n_genes", name=op.f("ck_better_counts_count_possible")
        ),
        sa.CheckConstraint("p_swap BETWEEN 0 AND 1", name=op.f("ck_better_counts_p_swap_range")),
        sa.ForeignKeyConstraint(
            ["experiment_id", "encoder_a"],
            ["experiment_encoders.experiment_id", "experiment_encoders.encoder"],
            name="fk_better_counts_encoder_a",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["experiment_id", "encoder_b"],
            ["experiment_encoders.experiment_id", "experiment_encoders.encoder"],
            name="fk_better_counts_encoder_b",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "experiment_id", "encoder_a", "encoder_b", "genes", name=op.f("pk_better_counts")
        ),
        comment="The paper's sentences: of n genes, m better with encoder_b",
    )
    op.create_table(
        "cv_gene_predictions",
        sa.Column("experiment_id", sa.BigInteger(), nullable=False),
        sa.Column("model_version_id", sa.BigInteger(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False, comment="Gene symbol"),
        sa.Column("patient_id", sa.Text(), nullable=False),
        sa.Column(
            "observed",
            sa.REAL(),
            nullable=False,
            comment="log2(x + 1) expression, or 1 mutated and 0 not",
        ),
        sa.Column(
            "predicted",
            postgresql.ARRAY(sa.REAL()),
            nullable=False,
            comment="log2(x + 1) expression, or probability of a mutation",
        ),
        sa.Column(
            "folds",
            postgresql.ARRAY(sa.SmallInteger()),
            nullable=False,
            comment="The fold that held the patient out, in each repeat",
        ),
        sa.CheckConstraint(
            "cardinality(predicted) = cardinality(folds)",
            name=op.f("ck_cv_gene_predictions_a_fold_a_prediction"),
        ),
        sa.ForeignKeyConstraint(
            ["experiment_id", "model_version_id"],
            ["experiment_encoders.experiment_id", "experiment_encoders.model_version_id"],
            name="fk_cv_gene_predictions_experiment_encoder",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["patient_id"],
            ["patients.patient_id"],
            name=op.f("fk_cv_gene_predictions_patient_id_patients"),
        ),
        sa.PrimaryKeyConstraint(
            "experiment_id",
            "model_version_id",
            "target",
            "patient_id",
            name=op.f("pk_cv_gene_predictions"),
        ),
        comment="Out-of-fold predictions of genes; element i is repeat i - 1",
    )
    op.create_table(
        "predictability",
        sa.Column("experiment_id", sa.BigInteger(), nullable=False),
        sa.Column("model_version_id", sa.BigInteger(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False, comment="Gene symbol"),
        sa.Column(
            "r",
            sa.DOUBLE_PRECISION(),
            nullable=False,
            comment="Mean Pearson correlation within test folds",
        ),
        sa.Column(
            "null_mean",
            sa.DOUBLE_PRECISION(),
            nullable=False,
            comment="The same under permuted patients, mean",
        ),
        sa.Column(
            "null_sd",
            sa.DOUBLE_PRECISION(),
            nullable=False,
            comment="The same under permuted patients, spread",
        ),
        sa.Column("p", sa.DOUBLE_PRECISION(), nullable=False, comment="One-sided, uncorrected"),
        sa.Column(
            "q",
            sa.DOUBLE_PRECISION(),
            nullable=False,
            comment="Benjamini-Hochberg over the encoder's genes",
        ),
        sa.Column("n_permutations", sa.Integer(), nullable=False),
        sa.CheckConstraint(
            "n_permutations > 0", name=op.f("ck_predictability_n_permutations_positive")
        ),
        sa.CheckConstraint(
            "p BETWEEN 0 AND 1 AND q BETWEEN 0 AND 1", name=op.f("ck_predictability_p_and_q_range")
        ),
        sa.ForeignKeyConstraint(
            ["experiment_id", "model_version_id"],
            ["experiment_encoders.experiment_id", "experiment_encoders.model_version_id"],
            name="fk_predictability_experiment_encoder",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "experiment_id", "model_version_id", "target", name=op.f("pk_predictability")
        ),
        comment="Which genes are predictable: one row a gene and model version",
    )
    op.add_column(
        "comparisons",
        sa.Column(
            "q_corrected",
            sa.DOUBLE_PRECISION(),
            nullable=True,
            comment="Benjamini-Hochberg of p_corrected over the genes of the pair and metric; "
            "NULL where there is one question only",
        ),
    )
    op.create_check_constraint(
        op.f("ck_comparisons_q_corrected_range"), "comparisons", "q_corrected BETWEEN 0 AND 1"
    )
    op.create_table(
        "study_datasets",
        sa.Column("study", sa.Text(), nullable=False),
        sa.Column("asset", sa.Text(), nullable=False, comment="Name of the source asset"),
        sa.Column("dataset_id", sa.BigInteger(), nullable=False),
        sa.Column(
            "listing_sha256",
            sa.Text(),
            nullable=False,
            comment="SHA-256 over paths, sizes and times of the files then: tells whether they "
            "changed",
        ),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint(
            "listing_sha256 ~ '^[0-9a-f]{64}$'",
            name=op.f("ck_study_datasets_listing_sha256_is_hex"),
        ),
        sa.CheckConstraint("study <> ''", name=op.f("ck_study_datasets_study_not_empty")),
        sa.ForeignKeyConstraint(
            ["dataset_id"],
            ["datasets.dataset_id"],
            name=op.f("fk_study_datasets_dataset_id_datasets"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("study", "asset", name=op.f("pk_study_datasets")),
        comment="Which data set each source of a study came to when it was last read",
    )
    op.create_index(op.f("ix_study_datasets_dataset_id"), "study_datasets", ["dataset_id"])
    for statement in _VIEW:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP VIEW patient_genes")
    op.drop_table("study_datasets")
    op.drop_column("comparisons", "q_corrected")
    op.drop_table("predictability")
    op.drop_table("cv_gene_predictions")
    op.drop_table("better_counts")
