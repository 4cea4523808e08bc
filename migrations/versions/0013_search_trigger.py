"""Only embeddings of versions that have search codes pay for the trigger that notes them.

The trigger stood on all embeddings and asked of every row whether its version has a projection.
It stands on the partitions of the versions that have one now; `featurestore/search/codes.py`
creates it with the projection.

Revision ID: 0013
"""

from __future__ import annotations

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_ON_ALL = """
    CREATE TRIGGER embeddings_await_search_code AFTER INSERT ON embeddings
    FOR EACH ROW EXECUTE FUNCTION await_search_code()
"""


def _partitions() -> list[str]:
    """Partitions of the versions that have search codes."""
    rows = op.get_bind().exec_driver_sql(
        "SELECT model_version_id FROM search_projections"
        " WHERE to_regclass('embeddings_v' || model_version_id) IS NOT NULL"
    )
    return [f"embeddings_v{row[0]}" for row in rows]


def upgrade() -> None:
    op.execute("DROP TRIGGER embeddings_await_search_code ON embeddings")
    for name in _partitions():
        op.execute(
            f"CREATE TRIGGER {name}_await_search_code AFTER INSERT ON {name} "
            "FOR EACH ROW EXECUTE FUNCTION await_search_code()"
        )


def downgrade() -> None:
    for name in _partitions():
        op.execute(f"DROP TRIGGER IF EXISTS {name}_await_search_code ON {name}")
    op.execute(_ON_ALL)
