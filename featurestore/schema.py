"""The schema's state: bringing a database to the newest migration, and refusing an older one."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text
from sqlalchemy.schema import CreateSchema

from featurestore.errors import StoreError

# One migrating process at a time; any fixed number will do, as long as it stays the same.
_MIGRATION_LOCK = 7_032_022_100_115


def alembic_config(connection: Connection | None = None) -> Config:
    """Alembic's configuration, working on ``connection`` where one is given."""
    spec = find_spec("migrations")
    if spec is None or spec.origin is None:
        raise StoreError("the package 'migrations' is not installed: reinstall ffpe")
    config = Config()
    config.set_main_option("script_location", str(Path(spec.origin).parent))
    config.attributes["connection"] = connection
    return config


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(alembic_config())


def head() -> str:
    """The newest migration that this code knows."""
    return str(_scripts().get_current_head())


def revisions() -> frozenset[str]:
    """Every migration that this code knows."""
    return frozenset(script.revision for script in _scripts().walk_revisions())


def current(engine: Engine) -> str | None:
    """The migration that the database is at, or None where it was never migrated."""
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Bring the database to ``revision``; safe to call from several processes at once."""
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
        command.upgrade(alembic_config(connection), revision)
    # Connections opened before the extension existed do not know its types.
    engine.dispose()


def downgrade(engine: Engine, revision: str) -> None:
    """Take the database back to ``revision`` (``"base"`` for empty)."""
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
        command.downgrade(alembic_config(connection), revision)
    engine.dispose()


def ensure_namespace(engine: Engine, name: str) -> None:
    """Create a Postgres schema if it is absent; safe to call from several processes at once.

    ``IF NOT EXISTS`` alone is not: of two that create it at the same moment one fails.
    """
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
        connection.execute(CreateSchema(name, if_not_exists=True))


def require_current(engine: Engine) -> None:
    """Refuse a database whose schema is not the one that this code is written for.

    Raises
    ------
    StoreError
        If the schema is absent, older, or made by a newer ffpe.
    """
    found, wanted = current(engine), head()
    if found == wanted:
        return
    if found is not None and found not in revisions():
        raise StoreError(
            f"the database schema is at {found!r}, which this ffpe does not know (its own newest "
            f"is {wanted!r}): a newer ffpe made it. Upgrade ffpe."
        )
    state = "holds no ffpe schema" if found is None else f"schema is at {found!r}"
    raise StoreError(f"the database {state}, this ffpe needs {wanted!r}: run `ffpe db upgrade`.")
