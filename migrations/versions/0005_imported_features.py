"""Features that other tools computed may join: model versions of networks we never ran.

Their weights are often unknown. Then a digest over the features stands in for them
(``features_sha256`` of the network's options), and the rule that a network has weights accepts
either. How they were computed may be unknown too, or half precision, which we never use.

Revision ID: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_HAS_WEIGHTS = (
    "weights_sha256 IS NOT NULL OR starts_with(network, 'colour.')"
    " OR starts_with(network, 'clinical.')"
)
_OR_FEATURES = (
    " OR (starts_with(network, 'imported.')"
    " AND network_options ->> 'features_sha256' IS NOT NULL"
    " AND network_options ->> 'features_sha256' ~ '^[0-9a-f]{64}$')"
)
_PRECISION = "precision IN ('float32', 'bfloat16')"
_OR_FOREIGN = " OR (starts_with(network, 'imported.') AND precision IN ('float16', 'unknown'))"
_NETWORK = "timm name, or colour.* and clinical.* baselines"
_NETWORK_NOW = "timm name, colour.* and clinical.* baselines, or imported.* and its maker"
_WEIGHTS = "SHA-256 over the weight tensors; NULL for baselines without weights"
_WEIGHTS_NOW = (
    "SHA-256 over the weight tensors; NULL for baselines without weights, and for "
    "imported features of unknown weights, which features_sha256 of the options identifies"
)


def upgrade() -> None:
    _rules(_HAS_WEIGHTS + _OR_FEATURES, _PRECISION + _OR_FOREIGN)
    _comments((_NETWORK, _NETWORK_NOW), (_WEIGHTS, _WEIGHTS_NOW))


def downgrade() -> None:
    _remove_imported()
    _rules(_HAS_WEIGHTS, _PRECISION)
    _comments((_NETWORK_NOW, _NETWORK), (_WEIGHTS_NOW, _WEIGHTS))


def _rules(has_weights: str, precision: str) -> None:
    rules = {"network_has_weights": has_weights, "precision_known": precision}
    for name, rule in rules.items():
        constraint = op.f(f"ck_model_versions_{name}")
        op.drop_constraint(constraint, "model_versions", type_="check")
        op.create_check_constraint(constraint, "model_versions", rule)


def _comments(network: tuple[str, str], weights: tuple[str, str]) -> None:
    for column, (before, now), nullable in (
        ("network", network, False),
        ("weights_sha256", weights, True),
    ):
        op.alter_column(
            "model_versions",
            column,
            existing_type=sa.Text(),
            existing_nullable=nullable,
            existing_comment=before,
            comment=now,
        )


def _remove_imported() -> None:
    """Remove what the former rules have no place for, and every result that rests on it."""
    imported = "SELECT model_version_id FROM model_versions WHERE starts_with(network, 'imported.')"
    ids = op.get_bind().scalars(sa.text(imported)).all()
    op.execute(
        "DELETE FROM experiments WHERE experiment_id IN (SELECT experiment_id"
        f" FROM experiment_encoders WHERE model_version_id IN ({imported}))"
    )
    for table in ("patient_features", "study_encoders"):
        op.execute(f"DELETE FROM {table} WHERE model_version_id IN ({imported})")
    for model_version_id in ids:
        op.execute(f"DROP TABLE IF EXISTS embeddings_v{int(model_version_id)}")
    op.execute(f"DELETE FROM model_versions WHERE model_version_id IN ({imported})")
