"""One version's search codes in the database: their table, the trigger, the name of the index."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.orm import Session

from featurestore.embeddings import partition_name


def code_partition(model_version_id: int) -> str:
    """Name of the table that holds the search codes of one model version."""
    return f"search_codes_v{int(model_version_id)}"


def lock_embeddings(session: Session, model_version_id: int) -> None:
    """Let no embedding of the version be written until the transaction ends."""
    # Writers of embeddings that are under way end first, and those that come later see the
    # projection: so every embedding is entered by us or by the trigger. The parent is locked
    # first, as whoever registers a version does, since a new partition of codes needs it, too.
    mine = partition_name(model_version_id)
    session.execute(text(f"LOCK TABLE ONLY embeddings, {mine} IN SHARE ROW EXCLUSIVE MODE"))


def index_name(model_version_id: int) -> str:
    """Name of the index on a version's codes."""
    return f"ix_{code_partition(model_version_id)}_hnsw"


def create_partition(session: Session, model_version_id: int, code_dim: int) -> None:
    """Create the table of a version's codes, which refuses codes of another length."""
    name = code_partition(model_version_id)
    # Identifiers and limits of DDL cannot be bound; both are integers of our own.
    session.execute(
        text(
            f"CREATE TABLE {name} PARTITION OF search_codes "
            f"(CONSTRAINT ck_{name}_dim CHECK (vector_dims(code) = {int(code_dim)})) "
            f"FOR VALUES IN ({int(model_version_id)})"
        )
    )


def create_trigger(session: Session, model_version_id: int) -> None:
    """Let embeddings of the version that come later wait for their codes."""
    name = partition_name(model_version_id)
    session.execute(
        text(
            f"CREATE OR REPLACE TRIGGER {name}_await_search_code AFTER INSERT ON {name} "
            "FOR EACH ROW EXECUTE FUNCTION await_search_code()"
        )
    )
