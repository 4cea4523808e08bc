"""Where ffpe keeps things: one folder for files, one database for facts.

``FFPE_HOME`` (default ``.ffpe`` in the working directory) holds the embedded database,
Dagster's files, weights and figures. ``FFPE_DATABASE_URL`` names an existing Postgres
instead of the embedded one, which is then never started. ``FFPE_DATABASE_WAIT`` is how many
seconds a database that goes away is waited for (default 60).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sqlalchemy import URL, Engine, make_url

from featurestore import schema
from featurestore.embedded import EmbeddedPostgres
from featurestore.engine import connect, store_url
from featurestore.errors import StoreError

DAGSTER_SCHEMA = "dagster"
_WAIT_SECONDS = 60.0


@dataclass(frozen=True)
class Home:
    """The folder and the database of one installation.

    Attributes
    ----------
    folder : pathlib.Path
        Everything that ffpe writes to disk is under it.
    database_url : str or None
        An existing Postgres; None for the embedded one.
    wait_seconds : float
        How long a database that goes away is waited for.
    """

    folder: Path
    database_url: str | None = None
    wait_seconds: float = _WAIT_SECONDS

    @classmethod
    def from_environment(cls) -> Home:
        """The home that ``FFPE_HOME`` and its like describe.

        Raises
        ------
        StoreError
            If ``FFPE_DATABASE_WAIT`` is no number of seconds.
        """
        folder = Path(os.environ.get("FFPE_HOME") or ".ffpe")
        url = os.environ.get("FFPE_DATABASE_URL") or None
        home = cls(folder.resolve(), url, _wait_seconds())
        home.keep_caches()
        return home

    @property
    def weights(self) -> Path:
        """Weights, each named by its digest."""
        return self._made("artifacts", "weights")

    @property
    def synthetic(self) -> Path:
        """Tissue that ffpe drew."""
        return self._made("artifacts", "synthetic")

    @property
    def scratch(self) -> Path:
        """Files that only live while something runs."""
        return self._made("scratch")

    @property
    def dagster(self) -> Path:
        """Dagster's own folder, its ``DAGSTER_HOME``."""
        return self._made("dagster")

    @property
    def logs(self) -> Path:
        """Logs of the processes that ``ffpe up`` starts."""
        return self._made("logs")

    def figures(self, study: str) -> Path:
        """Figures of a study."""
        return self._made("artifacts", "figures", study)

    def comparison_figure(self, study: str) -> Path:
        """Figure of a study's comparison of encoders, whether or not it is there yet."""
        return self.figures(study) / "tissue_comparison.png"

    def _made(self, *parts: str) -> Path:
        path = self.folder.joinpath(*parts)
        path.mkdir(parents=True, exist_ok=True)
        return path

    @cached_property
    def embedded(self) -> EmbeddedPostgres | None:
        """The embedded server, or None where another database is used."""
        if self.database_url is not None:
            return None
        self._made()
        return EmbeddedPostgres(self.folder / "postgres")

    @cached_property
    def url(self) -> URL:
        """URL of the database; starts the embedded server if that is the one."""
        if self.embedded is None:
            return store_url(str(self.database_url))
        return store_url(self.embedded.acquire())

    @cached_property
    def engine(self) -> Engine:
        """Engine on the database, whose schema is the one this code needs.

        The embedded database is migrated on the way; another one is refused if it is not
        at the newest migration, since somebody else may be using it.

        Raises
        ------
        StoreError
            If no database answers or its schema is not current.
        """
        engine = connect(self.url)
        if self.embedded is not None:
            schema.upgrade(engine)
        schema.require_current(engine)
        return engine

    def dagster_url(self) -> str:
        """URL of Dagster's own tables: the same database, in a schema of their own.

        Dagster speaks psycopg2, which keeps the schema in the connection's options.
        """
        schema.ensure_namespace(self.engine, DAGSTER_SCHEMA)
        url = make_url(self.url).set(drivername="postgresql+psycopg2")
        url = url.update_query_dict({"options": f"-csearch_path={DAGSTER_SCHEMA}"})
        return url.render_as_string(hide_password=False)

    def keep_caches(self) -> None:
        """Let libraries that cache under the user's home do so here instead."""
        os.environ.setdefault("MPLCONFIGDIR", str(self._made("cache", "matplotlib")))

    def revive(self) -> None:
        """See that the database answers again; an embedded server that died is started.

        Raises
        ------
        StoreError
            If it does not (yet).
        """
        self.engine.dispose()
        if self.embedded is not None:
            self.embedded.acquire()
        connect(self.url).dispose()

    def close(self) -> None:
        """Let go of the database; the embedded server stops if nobody else uses it."""
        if "engine" in self.__dict__:
            self.engine.dispose()
        if "url" in self.__dict__ and self.embedded is not None:
            self.embedded.release()


def _wait_seconds() -> float:
    told = os.environ.get("FFPE_DATABASE_WAIT") or str(_WAIT_SECONDS)
    try:
        seconds = float(told)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise StoreError(
            f"FFPE_DATABASE_WAIT is {told!r}; expected for how many seconds to wait for a database "
            "that goes away, for example 60"
        )
    return seconds
