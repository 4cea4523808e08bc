"""The commands under ``ffpe db``: URL, schema, a prompt, a page about it, readers, backups."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestration.cli_home import open_home, standard_error

if TYPE_CHECKING:
    from featurestore.backup import Backup
    from featurestore.readers import Reader
    from orchestration.home import Home

READER_PASSWORD = "FFPE_READER_PASSWORD"  # noqa: S105 - the name of a variable

database = typer.Typer(
    help="The database: its URL, its schema, a prompt, a page about it, readers, backups."
)


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


@database.command()
def docs(
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to write it; without, to stdout.")
    ] = None,
) -> None:
    """Write the schema as one page (HTML) with an entity diagram, from the database as it is."""
    from featurestore.catalogue import read_catalogue
    from orchestration.schema_page import schema_page

    with open_home() as home:
        page = schema_page(read_catalogue(home.engine))
    if out is None:
        typer.echo(page, nl=False)
        return
    try:
        out.write_text(page, encoding="utf-8")
    except OSError as error:
        raise typer.BadParameter(f"--out {out}: cannot be written ({error.strerror})") from error
    standard_error().print(f"wrote {out}", highlight=False, soft_wrap=True)


@database.command("grant-reader")
def grant_reader(
    name: Annotated[str, typer.Argument(help="The role; created if absent.")],
    timeout: Annotated[
        str, typer.Option(help="Longest time a statement may take: 500ms, 60s, 10min, 2h.")
    ] = "60s",
) -> None:
    """Let a role read everything in the store and change nothing.

    Its password is taken from FFPE_READER_PASSWORD. Without that a new role gets one that is
    printed once; on the embedded database it needs none.
    """
    import os
    import secrets

    from sqlalchemy.orm import Session

    from featurestore import readers

    with open_home() as home:
        password = os.environ.get(READER_PASSWORD) or None
        generated = secrets.token_urlsafe(24)
        with Session(home.engine) as session, session.begin():
            is_new = not readers.exists(session, name)
            is_generated = password is None and is_new and home.embedded is None
            reader = readers.grant_reader(
                session, name, password=generated if is_generated else password, timeout=timeout
            )
        _tell_reader(home, reader, generated if is_generated else None)


@database.command()
def backup(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where it is put; a new folder.")],
) -> None:
    """Back up the whole store, run history and weights included, into a new folder."""
    from featurestore.backup import write_backup

    with open_home() as home:
        done = write_backup(home.url, folder, files=home.weights, on_step=_tell_step)
    _tell_backup(f"backed up to {folder}", done)


@database.command()
def restore(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What `ffpe db backup` wrote.")],
) -> None:
    """Restore a backup into an empty database; everything or nothing."""
    from featurestore.restoration import restore_backup

    with open_home() as home:
        done = restore_backup(folder, home.url, files=home.weights, on_step=_tell_step)
    _tell_backup(f"restored {folder}", done)


def _tell_step(step: str) -> None:
    standard_error().print(f"{step} …", highlight=False, soft_wrap=True)


def _tell_backup(what: str, done: Backup) -> None:
    standard_error().print(
        f"{what}: {done.n_rows:,} rows of {len(done.tables)} tables, {len(done.files) - 1} files, "
        f"{done.n_bytes / 1e6:,.1f} MB; every digest compared",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _tell_reader(home: Home, reader: Reader, password: str | None) -> None:
    from sqlalchemy import URL

    console = standard_error()
    made = "made" if reader.is_new else "was there and is brought up to date"
    console.print(f"reader {reader.name!r} {made}", markup=False, soft_wrap=True)
    for what in reader.can_still:
        console.print(
            f"warning: it still {what}; the database's owner or a superuser can take that away",
            markup=False,
            soft_wrap=True,
        )
    if password is not None:
        console.print("its password is shown this once, in the URL", soft_wrap=True)
    # Made anew: URL.set() takes None for "as it is", which would show the owner's password.
    url = URL.create(
        "postgresql",
        reader.name,
        password,
        host=home.url.host,
        port=home.url.port,
        database=home.url.database,
        query=home.url.query,
    )
    # SQLAlchemy leaves spaces in a name as they are; libpq refuses them.
    typer.echo(url.render_as_string(hide_password=False).replace(" ", "%20"))


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
