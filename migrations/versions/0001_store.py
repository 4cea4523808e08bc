"""The store: patients, tiles, model versions, embeddings and the results that rest on them.

Everything starts here. Besides the tables this creates pgvector's extension and the
trigger that keeps what is identified by its content from being changed afterwards: an
updated model version or embedding would silently turn old results into other results.

Revision ID: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from pgvector.sqlalchemy import HALFVEC
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


_REFUSE_UPDATE = """
CREATE FUNCTION refuse_update() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% rows are identified by their content and never change', TG_TABLE_NAME
        USING HINT = 'Insert a new row instead.', ERRCODE = 'restrict_violation';
END
$$
"""
_IMMUTABLE = ("model_versions", "embeddings")


def upgrade() -> None:
    op.execute("CREATE EXTENSION IF NOT EXISTS vector")
    op.create_table(
        "datasets",
        sa.Column("dataset_id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column(
            "digest",
            sa.Text(),
            nullable=False,
            comment="SHA-256 over every tile's digest, label and patient",
        ),
        sa.Column("name", sa.Text(), nullable=False, comment="Last two parts of the folder's path"),
        sa.Column(
            "root", sa.Text(), nullable=False, comment="Folder where its files were last seen"
        ),
        sa.Column(
            "read_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When its files were last read",
        ),
        sa.Column(
            "listing_sha256",
            sa.Text(),
            nullable=False,
            comment="SHA-256 over paths, sizes and times of the folder's files when last read",
        ),
        sa.Column("n_tiles", sa.BigInteger(), nullable=False, comment="Number of distinct tiles"),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint("digest ~ '^[0-9a-f]{64}$'", name=op.f("ck_datasets_digest_is_hex")),
        sa.CheckConstraint(
            "listing_sha256 ~ '^[0-9a-f]{64}$'", name=op.f("ck_datasets_listing_sha256_is_hex")
        ),
        sa.CheckConstraint("name <> ''", name=op.f("ck_datasets_name_not_empty")),
        sa.CheckConstraint("n_tiles > 0", name=op.f("ck_datasets_n_tiles_positive")),
        sa.PrimaryKeyConstraint("dataset_id", name=op.f("pk_datasets")),
        sa.UniqueConstraint("digest", name=op.f("uq_datasets_digest")),
        comment="One row a set of labelled tiles; identified by its content",
    )
    op.create_table(
        "patients",
        sa.Column(
            "patient_id",
            sa.Text(),
            nullable=False,
            comment="The source's own patient identifier, e.g. TCGA-05-4244",
        ),
        sa.Column(
            "tissue_source_site",
            sa.Text(),
            nullable=True,
            comment="Hospital or biobank that gave the tissue; NULL where unknown",
        ),
        sa.CheckConstraint("patient_id <> ''", name=op.f("ck_patients_patient_id_not_empty")),
        sa.PrimaryKeyConstraint("patient_id", name=op.f("pk_patients")),
        comment="One row a patient; the unit that cross-validation keeps whole",
    )
    op.create_table(
        "rejects",
        sa.Column("reject_id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("study", sa.Text(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False, comment="ingest, embed, …"),
        sa.Column("item", sa.Text(), nullable=False, comment="File, tile, patient or gene"),
        sa.Column("reason", sa.Text(), nullable=False, comment="Why, and what to do about it"),
        sa.Column("run_id", sa.Text(), nullable=True, comment="Dagster run; NULL from a notebook"),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("reject_id", name=op.f("pk_rejects")),
        comment="What was left out, at which stage, why, and in which run",
    )
    op.create_index(
        "uq_rejects_once",
        "rejects",
        ["study", "stage", "item", "reason", "run_id"],
        unique=True,
        postgresql_nulls_not_distinct=True,
    )
    op.create_table(
        "experiments",
        sa.Column("experiment_id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column(
            "digest",
            sa.Text(),
            nullable=False,
            comment="SHA-256 over study, task, settings, data set and model versions",
        ),
        sa.Column("study", sa.Text(), nullable=False, comment="Name of the study"),
        sa.Column(
            "task", sa.Text(), nullable=False, comment="tissue, retrieval, expression or mutation"
        ),
        sa.Column("dataset_digest", sa.Text(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False, comment="Seed of the splits"),
        sa.Column("n_folds", sa.SmallInteger(), nullable=False),
        sa.Column("n_repeats", sa.SmallInteger(), nullable=False),
        sa.Column(
            "settings",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="Everything else that was set",
        ),
        sa.Column(
            "classes",
            postgresql.ARRAY(sa.Text()),
            nullable=True,
            comment="Class names in the order of cv_predictions' indices (from 0)",
        ),
        sa.Column(
            "leakage_checked",
            sa.Boolean(),
            nullable=False,
            comment="True where folds kept every patient whole; false where patients are unknown",
        ),
        sa.Column(
            "leakage_note", sa.Text(), nullable=False, comment="Why not checked; empty where it was"
        ),
        sa.Column(
            "is_current",
            sa.Boolean(),
            nullable=False,
            comment="True for the experiment that the study file describes now",
        ),
        sa.Column("dagster_run_id", sa.Text(), nullable=True, comment="Run that computed it"),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint("digest ~ '^[0-9a-f]{64}$'", name=op.f("ck_experiments_digest_is_hex")),
        sa.CheckConstraint(
            "leakage_checked OR leakage_note <> ''", name=op.f("ck_experiments_leakage_explained")
        ),
        sa.CheckConstraint("study <> ''", name=op.f("ck_experiments_study_not_empty")),
        sa.CheckConstraint(
            "n_folds >= 2 AND n_repeats >= 1", name=op.f("ck_experiments_splits_possible")
        ),
        sa.ForeignKeyConstraint(
            ["dataset_digest"],
            ["datasets.digest"],
            name=op.f("fk_experiments_dataset_digest_datasets"),
        ),
        sa.PrimaryKeyConstraint("experiment_id", name=op.f("pk_experiments")),
        sa.UniqueConstraint("digest", name=op.f("uq_experiments_digest")),
        sa.UniqueConstraint(
            "experiment_id", "task", name=op.f("uq_experiments_experiment_id_task")
        ),
        comment="One row a cross-validated question; results hang on it",
    )
    op.create_index(
        "uq_experiments_current",
        "experiments",
        ["study", "task"],
        unique=True,
        postgresql_where=sa.text("is_current"),
    )
    op.create_table(
        "model_versions",
        sa.Column("model_version_id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column(
            "sha256",
            sa.Text(),
            nullable=False,
            comment="SHA-256 over every column below but weights_source",
        ),
        sa.Column(
            "network",
            sa.Text(),
            nullable=False,
            comment="timm name, or colour.* and clinical.* baselines",
        ),
        sa.Column(
            "network_options",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="What was changed of the network's definition",
        ),
        sa.Column(
            "weights_sha256",
            sa.Text(),
            nullable=True,
            comment="SHA-256 over the weight tensors; NULL for baselines without weights",
        ),
        sa.Column(
            "weights_source", sa.Text(), nullable=False, comment="Where the weights came from"
        ),
        sa.Column(
            "input_px",
            sa.Integer(),
            nullable=False,
            comment="Side of the network's input in pixels",
        ),
        sa.Column(
            "mpp",
            sa.DOUBLE_PRECISION(),
            nullable=True,
            comment="Resolution the encoder is meant for, in µm per input pixel",
        ),
        sa.Column(
            "mean",
            postgresql.ARRAY(sa.DOUBLE_PRECISION()),
            nullable=False,
            comment="Channel means of the normalisation, scale 0-1",
        ),
        sa.Column(
            "std",
            postgresql.ARRAY(sa.DOUBLE_PRECISION()),
            nullable=False,
            comment="Channel standard deviations, scale 0-1",
        ),
        sa.Column(
            "interpolation",
            sa.Text(),
            nullable=False,
            comment="How tiles are resampled to input_px",
        ),
        sa.Column(
            "pooling", sa.Text(), nullable=False, comment="How feature maps become one vector"
        ),
        sa.Column(
            "precision", sa.Text(), nullable=False, comment="Number format of the computation"
        ),
        sa.Column("dim", sa.Integer(), nullable=False, comment="Number of features"),
        sa.Column("licence", sa.Text(), nullable=False, comment="Licence of the weights"),
        sa.Column("trained_on", sa.Text(), nullable=False, comment="Training data in words"),
        sa.Column(
            "trained_on_digest",
            sa.Text(),
            nullable=True,
            comment="The data set of this store it was fine-tuned on",
        ),
        sa.Column(
            "training",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=True,
            comment="Settings of the fine-tuning, seed included",
        ),
        sa.Column(
            "parent_id",
            sa.BigInteger(),
            nullable=True,
            comment="The version that fine-tuning started from",
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint(
            "precision IN ('float32', 'bfloat16')", name=op.f("ck_model_versions_precision_known")
        ),
        sa.CheckConstraint(
            "sha256 ~ '^[0-9a-f]{64}$'", name=op.f("ck_model_versions_sha256_is_hex")
        ),
        sa.CheckConstraint(
            "weights_sha256 IS NOT NULL OR starts_with(network, 'colour.')"
            " OR starts_with(network, 'clinical.')",
            name=op.f("ck_model_versions_network_has_weights"),
        ),
        sa.CheckConstraint(
            "weights_sha256 ~ '^[0-9a-f]{64}$'",
            name=op.f("ck_model_versions_weights_sha256_is_hex"),
        ),
        sa.CheckConstraint(
            "(parent_id IS NULL) = (trained_on_digest IS NULL)"
            " AND (parent_id IS NULL) = (training IS NULL)",
            name=op.f("ck_model_versions_training_told_whole"),
        ),
        sa.CheckConstraint("dim BETWEEN 1 AND 16000", name=op.f("ck_model_versions_dim_storable")),
        sa.CheckConstraint("input_px > 0", name=op.f("ck_model_versions_input_px_positive")),
        sa.CheckConstraint("mpp BETWEEN 0.05 AND 10", name=op.f("ck_model_versions_mpp_plausible")),
        sa.ForeignKeyConstraint(
            ["parent_id"],
            ["model_versions.model_version_id"],
            name=op.f("fk_model_versions_parent_id_model_versions"),
        ),
        sa.ForeignKeyConstraint(
            ["trained_on_digest"],
            ["datasets.digest"],
            name=op.f("fk_model_versions_trained_on_digest_datasets"),
        ),
        sa.PrimaryKeyConstraint("model_version_id", name=op.f("pk_model_versions")),
        sa.UniqueConstraint("sha256", name=op.f("uq_model_versions_sha256")),
        comment="One row a model version; never updated (a trigger refuses it)",
    )
    op.create_table(
        "tiles",
        sa.Column("tile_id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column(
            "sha256", sa.Text(), nullable=False, comment="SHA-256 over size and decoded RGB pixels"
        ),
        sa.Column("width_px", sa.Integer(), nullable=False, comment="Width in pixels"),
        sa.Column("height_px", sa.Integer(), nullable=False, comment="Height in pixels"),
        sa.Column(
            "mpp",
            sa.DOUBLE_PRECISION(),
            nullable=True,
            comment="Resolution in µm per pixel; NULL where the source tells none",
        ),
        sa.Column(
            "patient_id", sa.Text(), nullable=True, comment="NULL where the source names none"
        ),
        sa.CheckConstraint("sha256 ~ '^[0-9a-f]{64}$'", name=op.f("ck_tiles_sha256_is_hex")),
        sa.CheckConstraint("mpp BETWEEN 0.05 AND 10", name=op.f("ck_tiles_mpp_plausible")),
        sa.CheckConstraint("width_px > 0 AND height_px > 0", name=op.f("ck_tiles_size_positive")),
        sa.ForeignKeyConstraint(
            ["patient_id"], ["patients.patient_id"], name=op.f("fk_tiles_patient_id_patients")
        ),
        sa.PrimaryKeyConstraint("tile_id", name=op.f("pk_tiles")),
        sa.UniqueConstraint("sha256", name=op.f("uq_tiles_sha256")),
        comment="One row a distinct image; belongs to the store, not to a study",
    )
    op.create_index(op.f("ix_tiles_patient_id"), "tiles", ["patient_id"], unique=False)
    op.create_table(
        "dataset_tiles",
        sa.Column("dataset_id", sa.BigInteger(), nullable=False),
        sa.Column("tile_id", sa.BigInteger(), nullable=False),
        sa.Column(
            "label", sa.Text(), nullable=False, comment="Class as annotated in this data set"
        ),
        sa.Column("path", sa.Text(), nullable=False, comment="File, relative to datasets.root"),
        sa.CheckConstraint("label <> ''", name=op.f("ck_dataset_tiles_label_not_empty")),
        sa.ForeignKeyConstraint(
            ["dataset_id"],
            ["datasets.dataset_id"],
            name=op.f("fk_dataset_tiles_dataset_id_datasets"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tile_id"], ["tiles.tile_id"], name=op.f("fk_dataset_tiles_tile_id_tiles")
        ),
        sa.PrimaryKeyConstraint("dataset_id", "tile_id", name=op.f("pk_dataset_tiles")),
        comment="Which tiles a data set holds, with which label",
    )
    op.create_index(op.f("ix_dataset_tiles_tile_id"), "dataset_tiles", ["tile_id"], unique=False)
    op.create_table(
        "embeddings",
        sa.Column("model_version_id", sa.BigInteger(), nullable=False),
        sa.Column("tile_id", sa.BigInteger(), nullable=False),
        sa.Column(
            "embedding",
            HALFVEC(),
            nullable=False,
            comment="Features in half precision, model_versions.dim of them",
        ),
        sa.ForeignKeyConstraint(
            ["model_version_id"],
            ["model_versions.model_version_id"],
            name=op.f("fk_embeddings_model_version_id_model_versions"),
        ),
        sa.ForeignKeyConstraint(
            ["tile_id"], ["tiles.tile_id"], name=op.f("fk_embeddings_tile_id_tiles")
        ),
        sa.PrimaryKeyConstraint("model_version_id", "tile_id", name=op.f("pk_embeddings")),
        comment="Features of tiles; one partition a model version, never updated",
        postgresql_partition_by="LIST (model_version_id)",
    )
    op.create_table(
        "experiment_encoders",
        sa.Column("experiment_id", sa.BigInteger(), nullable=False),
        sa.Column("model_version_id", sa.BigInteger(), nullable=False),
        sa.Column("encoder", sa.Text(), nullable=False, comment="The encoder's name in the study"),
        sa.Column(
            "position", sa.SmallInteger(), nullable=False, comment="Order in the study file, from 0"
        ),
        sa.Column(
            "n_not_converged",
            sa.Integer(),
            nullable=False,
            comment="Splits whose estimator stopped before it converged: their scores are doubtful",
        ),
        sa.ForeignKeyConstraint(
            ["experiment_id"],
            ["experiments.experiment_id"],
            name=op.f("fk_experiment_encoders_experiment_id_experiments"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["model_version_id"],
            ["model_versions.model_version_id"],
            name=op.f("fk_experiment_encoders_model_version_id_model_versions"),
        ),
        sa.PrimaryKeyConstraint(
            "experiment_id", "model_version_id", name=op.f("pk_experiment_encoders")
        ),
        sa.UniqueConstraint(
            "experiment_id", "encoder", name=op.f("uq_experiment_encoders_experiment_id_encoder")
        ),
        comment="The model versions that an experiment compares",
    )
    op.create_table(
        "study_encoders",
        sa.Column("study", sa.Text(), nullable=False),
        sa.Column("encoder", sa.Text(), nullable=False),
        sa.Column("model_version_id", sa.BigInteger(), nullable=False),
        sa.Column(
            "recipe_sha256",
            sa.Text(),
            nullable=False,
            comment="SHA-256 over what the study asked for: tells whether that has changed since",
        ),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint("encoder <> ''", name=op.f("ck_study_encoders_encoder_not_empty")),
        sa.CheckConstraint(
            "recipe_sha256 ~ '^[0-9a-f]{64}$'", name=op.f("ck_study_encoders_recipe_sha256_is_hex")
        ),
        sa.CheckConstraint("study <> ''", name=op.f("ck_study_encoders_study_not_empty")),
        sa.ForeignKeyConstraint(
            ["model_version_id"],
            ["model_versions.model_version_id"],
            name=op.f("fk_study_encoders_model_version_id_model_versions"),
        ),
        sa.PrimaryKeyConstraint("study", "encoder", name=op.f("pk_study_encoders")),
        comment="A study's encoder names and the model versions they stand for now",
    )
    op.create_table(
        "training_epochs",
        sa.Column("model_version_id", sa.BigInteger(), nullable=False),
        sa.Column("step", sa.SmallInteger(), nullable=False),
        sa.Column("epoch", sa.SmallInteger(), nullable=False, comment="From 1 within the step"),
        sa.Column(
            "train_loss",
            sa.DOUBLE_PRECISION(),
            nullable=False,
            comment="Cross-entropy in nats, augmented tiles",
        ),
        sa.Column(
            "train_accuracy",
            sa.DOUBLE_PRECISION(),
            nullable=False,
            comment="Share of training tiles, 0-1",
        ),
        sa.Column(
            "validation_loss",
            sa.DOUBLE_PRECISION(),
            nullable=True,
            comment="Cross-entropy in nats; NULL where no tile was held out",
        ),
        sa.Column(
            "validation_accuracy",
            sa.DOUBLE_PRECISION(),
            nullable=True,
            comment="Share of held-out tiles, 0-1; NULL where none was held out",
        ),
        sa.Column(
            "seconds",
            sa.DOUBLE_PRECISION(),
            nullable=False,
            comment="Wall time of the epoch in seconds",
        ),
        sa.CheckConstraint("epoch > 0", name=op.f("ck_training_epochs_epoch_positive")),
        sa.CheckConstraint("step IN (1, 2)", name=op.f("ck_training_epochs_step_known")),
        sa.ForeignKeyConstraint(
            ["model_version_id"],
            ["model_versions.model_version_id"],
            name=op.f("fk_training_epochs_model_version_id_model_versions"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "model_version_id", "step", "epoch", name=op.f("pk_training_epochs")
        ),
        comment="Training curves: step 1 trains the head, step 2 the unfrozen part",
    )
    op.create_table(
        "comparisons",
        sa.Column("experiment_id", sa.BigInteger(), nullable=False),
        sa.Column(
            "task", sa.Text(), nullable=False, comment="tissue, retrieval, expression or mutation"
        ),
        sa.Column("target", sa.Text(), nullable=False, comment="all, a class or a gene"),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("encoder_a", sa.Text(), nullable=False),
        sa.Column("encoder_b", sa.Text(), nullable=False),
        sa.Column(
            "mean_a",
            sa.DOUBLE_PRECISION(),
            nullable=False,
            comment="Mean of encoder_a over the splits",
        ),
        sa.Column(
            "mean_b",
            sa.DOUBLE_PRECISION(),
            nullable=False,
            comment="Mean of encoder_b over the splits",
        ),
        sa.Column("difference", sa.DOUBLE_PRECISION(), nullable=False, comment="mean_b - mean_a"),
        sa.Column(
            "ci_low",
            sa.DOUBLE_PRECISION(),
            nullable=False,
            comment="95 % interval, corrected variance",
        ),
        sa.Column(
            "ci_high",
            sa.DOUBLE_PRECISION(),
            nullable=False,
            comment="95 % interval, corrected variance",
        ),
        sa.Column(
            "t_naive",
            sa.DOUBLE_PRECISION(),
            nullable=False,
            comment="Paired t over splits taken as independent",
        ),
        sa.Column(
            "p_naive",
            sa.DOUBLE_PRECISION(),
            nullable=False,
            comment="Its two-sided p-value: far too small",
        ),
        sa.Column(
            "t_corrected",
            sa.DOUBLE_PRECISION(),
            nullable=False,
            comment="Corrected resampled t (Nadeau & Bengio)",
        ),
        sa.Column(
            "p_corrected", sa.DOUBLE_PRECISION(), nullable=False, comment="Its two-sided p-value"
        ),
        sa.Column(
            "n_splits", sa.Integer(), nullable=False, comment="Splits on which both have the metric"
        ),
        sa.Column("n_repeats", sa.SmallInteger(), nullable=False),
        sa.Column("n_folds", sa.SmallInteger(), nullable=False),
        sa.Column("leakage_checked", sa.Boolean(), nullable=False, comment="As in experiments"),
        sa.Column("leakage_note", sa.Text(), nullable=False, comment="As in experiments"),
        sa.CheckConstraint(
            "ci_low <= difference AND difference <= ci_high",
            name=op.f("ck_comparisons_interval_holds"),
        ),
        sa.CheckConstraint("encoder_a <> encoder_b", name=op.f("ck_comparisons_two_encoders")),
        sa.CheckConstraint(
            "p_corrected BETWEEN 0 AND 1", name=op.f("ck_comparisons_p_corrected_range")
        ),
        sa.CheckConstraint("p_naive BETWEEN 0 AND 1", name=op.f("ck_comparisons_p_naive_range")),
        sa.ForeignKeyConstraint(
            ["experiment_id", "encoder_a"],
            ["experiment_encoders.experiment_id", "experiment_encoders.encoder"],
            name="fk_comparisons_encoder_a",
        ),
        sa.ForeignKeyConstraint(
            ["experiment_id", "encoder_b"],
            ["experiment_encoders.experiment_id", "experiment_encoders.encoder"],
            name="fk_comparisons_encoder_b",
        ),
        sa.ForeignKeyConstraint(
            ["experiment_id", "task"],
            ["experiments.experiment_id", "experiments.task"],
            name=op.f("fk_comparisons_experiment_id_task_experiments"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "experiment_id",
            "target",
            "metric",
            "encoder_a",
            "encoder_b",
            name=op.f("pk_comparisons"),
        ),
        comment="Paired comparisons; the naive p-value never stands without the corrected",
    )
    op.create_table(
        "cv_predictions",
        sa.Column("experiment_id", sa.BigInteger(), nullable=False),
        sa.Column("model_version_id", sa.BigInteger(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False, comment="all, or a gene"),
        sa.Column("repeat", sa.SmallInteger(), nullable=False, comment="From 0"),
        sa.Column(
            "fold", sa.SmallInteger(), nullable=False, comment="The fold that held the unit out"
        ),
        sa.Column("tile_id", sa.BigInteger(), nullable=True),
        sa.Column("patient_id", sa.Text(), nullable=True),
        sa.Column(
            "observed", sa.DOUBLE_PRECISION(), nullable=False, comment="Class index, 0/1, or value"
        ),
        sa.Column(
            "predicted", sa.DOUBLE_PRECISION(), nullable=False, comment="Class index, 0/1, or value"
        ),
        sa.Column(
            "probabilities",
            postgresql.ARRAY(sa.REAL()),
            nullable=True,
            comment="Class probabilities in the order of experiments.classes",
        ),
        sa.CheckConstraint(
            "num_nonnulls(tile_id, patient_id) = 1", name=op.f("ck_cv_predictions_one_unit")
        ),
        sa.ForeignKeyConstraint(
            ["experiment_id", "model_version_id"],
            ["experiment_encoders.experiment_id", "experiment_encoders.model_version_id"],
            name="fk_cv_predictions_experiment_encoder",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["patient_id"],
            ["patients.patient_id"],
            name=op.f("fk_cv_predictions_patient_id_patients"),
        ),
        sa.ForeignKeyConstraint(
            ["tile_id"], ["tiles.tile_id"], name=op.f("fk_cv_predictions_tile_id_tiles")
        ),
        comment="Out-of-fold predictions; one row a tile (or patient), repeat and version",
    )
    op.create_index(
        "uq_cv_predictions_unit",
        "cv_predictions",
        ["experiment_id", "model_version_id", "target", "repeat", "tile_id", "patient_id"],
        unique=True,
        postgresql_nulls_not_distinct=True,
    )
    op.create_table(
        "cv_scores",
        sa.Column("experiment_id", sa.BigInteger(), nullable=False),
        sa.Column("model_version_id", sa.BigInteger(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False, comment="all, a class or a gene"),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("repeat", sa.SmallInteger(), nullable=False, comment="From 0"),
        sa.Column("fold", sa.SmallInteger(), nullable=False, comment="From 0 within the repeat"),
        sa.Column(
            "value",
            sa.DOUBLE_PRECISION(),
            nullable=True,
            comment="The score; NULL where it is undefined on the split",
        ),
        sa.Column(
            "n_train",
            sa.Integer(),
            nullable=False,
            comment="Training tiles or patients of the split",
        ),
        sa.Column(
            "n_test", sa.Integer(), nullable=False, comment="Test tiles or patients of the split"
        ),
        sa.CheckConstraint("n_train > 0 AND n_test > 0", name=op.f("ck_cv_scores_split_not_empty")),
        sa.ForeignKeyConstraint(
            ["experiment_id", "model_version_id"],
            ["experiment_encoders.experiment_id", "experiment_encoders.model_version_id"],
            name="fk_cv_scores_experiment_encoder",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "experiment_id",
            "model_version_id",
            "target",
            "metric",
            "repeat",
            "fold",
            name=op.f("pk_cv_scores"),
        ),
        comment="Scores per split: one row a target, model version, repeat, fold and metric",
    )
    op.execute(_REFUSE_UPDATE)
    for table in _IMMUTABLE:
        op.execute(
            f"CREATE TRIGGER {table}_immutable BEFORE UPDATE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION refuse_update()"
        )


def downgrade() -> None:
    op.drop_table("cv_scores")
    op.drop_index(
        "uq_cv_predictions_unit", table_name="cv_predictions", postgresql_nulls_not_distinct=True
    )
    op.drop_table("cv_predictions")
    op.drop_table("comparisons")
    op.drop_table("training_epochs")
    op.drop_table("study_encoders")
    op.drop_table("experiment_encoders")
    op.drop_table("embeddings")
    op.drop_index(op.f("ix_dataset_tiles_tile_id"), table_name="dataset_tiles")
    op.drop_table("dataset_tiles")
    op.drop_index(op.f("ix_tiles_patient_id"), table_name="tiles")
    op.drop_table("tiles")
    op.drop_table("model_versions")
    op.drop_index(
        "uq_experiments_current", table_name="experiments", postgresql_where=sa.text("is_current")
    )
    op.drop_table("experiments")
    op.drop_index("uq_rejects_once", table_name="rejects", postgresql_nulls_not_distinct=True)
    op.drop_table("rejects")
    op.drop_table("patients")
    op.drop_table("datasets")
    op.execute("DROP FUNCTION refuse_update()")
    # The vector extension stays: other tables of this database may use it.
