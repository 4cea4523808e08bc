"""Views with names that need no manual, and a comment with its unit on every column.

People who know SQL and not this code ask by study and encoder; the tables are keyed by numbers.
The views stand in ``0007_views.sql``.

Revision ID: 0007
"""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# In the order of their making: a view stands after those that it reads.
_VIEWS = (
    "study_models",
    "study_tiles",
    "study_slides",
    "study_patient_genes",
    "tissue_predictions",
    "gene_predictions",
    "split_scores",
    "study_comparisons",
    "gene_predictability",
    "better_gene_counts",
    "left_out",
    "model_lineage",
    "comparison_provenance",
    "experiment_tiles",
)
_COMMENTED_VIEWS = {
    "gene_expression": ("patient_id", "symbol", "source_id"),
    "mutation_status": ("patient_id", "gene", "source_id"),
    "patient_genes": (
        "patient_id",
        "tissue_source_site",
        "model_version_id",
        "network",
        "trained_on",
        "gene",
        "dataset_id",
        "expression_source_id",
        "mutation_source_id",
    ),
}
_STUDY = "Name of the study"
_WRITTEN = "When the row was written"
_FIRST, _SECOND = (
    "Name of the first encoder in the study",
    "Name of the second encoder in the study",
)
_FOLDS, _REPEATS = "Folds a repeat", "Repeats of the cross-validation"
_COMMENTED_TABLES = {
    "better_counts": {"encoder_a": _FIRST, "encoder_b": _SECOND},
    "clinical": {"value": "As text; age in years, stage as I to IV, others as published"},
    "comparisons": {
        "metric": "accuracy, auroc, …",
        "encoder_a": _FIRST,
        "encoder_b": _SECOND,
        "n_repeats": _REPEATS,
        "n_folds": _FOLDS,
    },
    "cv_scores": {"metric": "accuracy, auroc, …"},
    "datasets": {"created_at": _WRITTEN},
    "experiments": {"n_folds": _FOLDS, "n_repeats": _REPEATS, "created_at": _WRITTEN},
    "model_versions": {"created_at": _WRITTEN},
    "molecular_sources": {"read_at": "When its files were last read"},
    "predictability": {"n_permutations": "Number of permutations"},
    "rejects": {"study": _STUDY, "created_at": _WRITTEN},
    "study_datasets": {"study": _STUDY, "updated_at": "When the source was last read"},
    "study_encoders": {
        "study": _STUDY,
        "encoder": "The encoder's name in the study",
        "updated_at": "When the name last came to stand for this version",
    },
    "training_epochs": {"step": "1 trains the head, 2 the unfrozen part"},
}


def _comment(table: str, column: str, comment: str | None) -> None:
    quoted = "NULL" if comment is None else "'" + comment.replace("'", "''") + "'"
    op.execute(f"COMMENT ON COLUMN {table}.{column} IS {quoted}")


def upgrade() -> None:
    statements = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    # By the driver: to SQLAlchemy a colon in a text would be a parameter.
    op.get_bind().exec_driver_sql(statements.replace("%", "%%"))
    for table, comments in _COMMENTED_TABLES.items():
        for column, comment in comments.items():
            _comment(table, column, comment)


def downgrade() -> None:
    for table, comments in _COMMENTED_TABLES.items():
        for column in comments:
            _comment(table, column, None)
    for view, columns in _COMMENTED_VIEWS.items():
        for column in columns:
            _comment(view, column, None)
    for view in reversed(_VIEWS):
        op.execute(f"DROP VIEW {view}")
