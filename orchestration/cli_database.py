"""The commands under ``ffpe db``: the database's URL, its schema, a prompt on it."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestration.cli_home import open_home, standard_error

database = typer.Typer(help="The database: its URL, its schema, a prompt on it.")


@database.command()
def url() -> None:
    """Print the database's URL; an embedded server runs while something uses it."""
    with open_home() as home:
        shown = home.url.set(drivername="postgresql")
        typer.echo(shown.render_as_string(hide_password=False))


@database.command()
def upgrade() -> None:
    """Bring the database's schema to the newest migration."""
    from featurestore import schema
    from featurestore.engine import connect

    with open_home() as home:
        engine = connect(home.url)
        before = schema.current(engine)
        schema.upgrade(engine)
        engine.dispose()
    standard_error().print(f"schema {before or 'absent'} → {schema.head()}")


@database.command(context_settings={"ignore_unknown_options": True})
def psql(
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[PSQL OPTIONS]", help="Passed on to psql.")
    ] = None,
) -> None:
    """Open psql on the database."""
    import os
    import shutil
    import subprocess

    from featurestore.errors import StoreError

    with open_home() as home:
        url_text = home.url.set(drivername="postgresql").render_as_string(hide_password=False)
        program = (
            shutil.which("psql") if home.embedded is None else str(home.embedded.binary("psql"))
        )
        if program is None:
            raise StoreError(
                "psql is not installed; `ffpe db url` gives the URL for another client"
            )
        # By the environment, since a password in the arguments is seen by every user.
        status_code = subprocess.call(
            [program, *(arguments or [])], env=os.environ | _psql_environment(url_text)
        )
    raise typer.Exit(status_code)


def _psql_environment(url_text: str) -> dict[str, str]:
    from sqlalchemy import make_url

    url = make_url(url_text)
    host = url.host or url.query.get("host")
    parts = {
        "PGHOST": host,
        "PGPORT": url.port,
        "PGUSER": url.username,
        "PGPASSWORD": url.password,
        "PGDATABASE": url.database,
    }
    return {name: str(value) for name, value in parts.items() if value}
