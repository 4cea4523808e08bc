"""Read-only roles: analysts who ask the store in SQL and cannot change anything in it.

What makes a role a reader are missing privileges, which it cannot give itself. That its
transactions start read-only and its statements time out guards against accidents only:
Postgres lets every session change such settings for itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from psycopg import sql
from sqlalchemy import bindparam, text
from sqlalchemy.orm import Session

from featurestore.errors import StoreError

DEFAULT_TIMEOUT = "60s"
_TIMEOUT = re.compile(r"[1-9][0-9]{0,8}(ms|s|min|h)")
_NAME_BYTES = 63  # Postgres cuts longer ones, so that two of them may be one role

# Everybody may make large objects unless told otherwise, and they are no table to be granted.
_LARGE_OBJECT_MAKERS = ("lo_creat(integer)", "lo_create(oid)", "lo_from_bytea(oid, bytea)")

# What a role could change here, in words; no row is what a reader must come to.
_WRITES = text(
    """
    SELECT 'is a superuser' FROM pg_roles WHERE rolname = :name AND rolsuper
     UNION ALL
    SELECT 'may create roles or databases, or replicate' FROM pg_roles
     WHERE rolname = :name AND (rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls)
     UNION ALL
    SELECT 'is a member of ' || granted.rolname
      FROM pg_auth_members JOIN pg_roles AS granted ON granted.oid = pg_auth_members.roleid
     WHERE pg_auth_members.member = (SELECT oid FROM pg_roles WHERE rolname = :name)
     UNION ALL
    SELECT 'may write to ' || count(*) || ' tables, such as ' || min(pg_class.oid::regclass::text)
      FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
     WHERE relkind IN ('r', 'p', 'v', 'm', 'f') AND nspname !~ '^pg_|^information_schema$'
       AND (has_table_privilege(:name, pg_class.oid, 'DELETE, TRUNCATE')
            OR has_any_column_privilege(:name, pg_class.oid, 'INSERT, UPDATE'))
    HAVING count(*) > 0
     UNION ALL
    SELECT 'may use up numbers of ' || min(pg_class.oid::regclass::text)
      FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
     WHERE nspname !~ '^pg_|^information_schema$'
       AND CASE WHEN relkind = 'S'
                THEN has_sequence_privilege(:name, pg_class.oid, 'USAGE, UPDATE') END
    HAVING count(*) > 0
     UNION ALL
    SELECT 'may create objects in the schema ' || nspname FROM pg_namespace
     WHERE nspname !~ '^pg_|^information_schema$'
       AND has_schema_privilege(:name, pg_namespace.oid, 'CREATE')
     UNION ALL
    SELECT 'may create schemas' WHERE has_database_privilege(:name, current_database(), 'CREATE')
     UNION ALL
    SELECT 'may create temporary tables'
     WHERE has_database_privilege(:name, current_database(), 'TEMPORARY')
     UNION ALL
    SELECT 'may create large objects'
     WHERE EXISTS (SELECT 1 FROM unnest(CAST(:makers AS text[])) AS maker
                    WHERE has_function_privilege(:name, maker, 'EXECUTE'))
    """
).bindparams(bindparam("makers", value=list(_LARGE_OBJECT_MAKERS)))

# Open to everybody by Postgres' own default: for a new role nothing to be refused for.
_BY_DEFAULT = ("may create temporary tables", "may create large objects")


@dataclass(frozen=True, slots=True)
class Reader:
    """What granting came to.

    Attributes
    ----------
    name : str
    is_new : bool
        Whether the role was created now.
    can_still : tuple of str
        What it may still change, because only the database's owner or a superuser can take
        that away; empty where it can change nothing.
    """

    name: str
    is_new: bool
    can_still: tuple[str, ...]


def grant_reader(
    session: Session, name: str, *, password: str | None = None, timeout: str = DEFAULT_TIMEOUT
) -> Reader:
    """Let a role read everything in the store, now and later, and change nothing.

    It may log in, read every table, view and partition of the schema ``public`` (those that
    are created later, too) and call its functions. Granting again brings it to the same state.

    Parameters
    ----------
    session : sqlalchemy.orm.Session
        As the role that owns the tables, since it is the one who makes later partitions. The
        caller commits.
    name : str
        Created if absent.
    password : str, optional
        Set if given; without one the role keeps what it has, and a new one has none. The
        server is sent its SCRAM verifier, so that no log shows it.
    timeout : str
        Longest time a statement may take, as Postgres writes it: ``"60s"``, ``"5min"``.

    Raises
    ------
    StoreError
        If the name or the timeout cannot be used, or the role exists and may write.
    """
    _check(session, name, timeout)
    is_new = not exists(session, name)
    if not is_new:
        writes = [what for what in write_access(session, name) if what not in _BY_DEFAULT]
        if writes:
            raise StoreError(
                f"the role {name!r} exists and {'; '.join(writes)}: a reader must not. Choose "
                "another name, or take these rights away first."
            )
    role = sql.Identifier(name)
    if is_new:
        _execute(session, "CREATE ROLE {role}", role=role)
    _execute(session, "ALTER ROLE {role} LOGIN", role=role)
    if password is not None:
        verifier = sql.Literal(_verifier(session, name, password))
        _execute(session, "ALTER ROLE {role} PASSWORD {verifier}", role=role, verifier=verifier)
    _grant(session, role)
    _close(session)
    _settle(session, role, timeout)
    return Reader(name, is_new, write_access(session, name))


def exists(session: Session, name: str) -> bool:
    """Whether there is a role of this name."""
    query = text("SELECT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = :name)")
    return bool(session.scalar(query, {"name": name}))


def write_access(session: Session, name: str) -> tuple[str, ...]:
    """What an existing role may change in this database, in words; empty for a reader."""
    return tuple(session.scalars(_WRITES, {"name": name}))


def _check(session: Session, name: str, timeout: str) -> None:
    if not name or "\0" in name or len(name.encode()) > _NAME_BYTES:
        raise StoreError(
            f"{name!r} cannot be a role's name; expected 1 to {_NAME_BYTES} bytes of UTF-8"
        )
    if name.startswith("pg_") or name in ("public", "none"):
        raise StoreError(f"{name!r} is a name that Postgres keeps for itself: choose another")
    if name == session.scalar(text("SELECT current_user")):
        raise StoreError(f"{name!r} is the role that ffpe itself works as: choose another name")
    if not _TIMEOUT.fullmatch(timeout):
        raise StoreError(f"--timeout {timeout!r}; expected a number and ms, s, min or h, as in 60s")


def _verifier(session: Session, name: str, password: str) -> str:
    connection: Any = session.connection().connection.driver_connection
    made = connection.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256")
    return str(made.decode())


def _execute(session: Session, statement: str, **parts: sql.Composable) -> None:
    connection: Any = session.connection().connection.driver_connection
    connection.execute(sql.SQL(statement).format(**parts))


def _grant(session: Session, role: sql.Identifier) -> None:
    database = sql.Identifier(session.scalar(text("SELECT current_database()")))
    _execute(session, "GRANT CONNECT ON DATABASE {db} TO {role}", db=database, role=role)
    _execute(session, "GRANT USAGE ON SCHEMA public TO {role}", role=role)
    _execute(session, "GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}", role=role)
    _execute(session, "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO {role}", role=role)
    # A partition is made when a model version or a source comes, by whoever owns its parent.
    for owner in _owners(session):
        later = "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA public "
        parts = {"owner": sql.Identifier(owner), "role": role}
        _execute(session, later + "GRANT SELECT ON TABLES TO {role}", **parts)
        _execute(session, later + "GRANT EXECUTE ON FUNCTIONS TO {role}", **parts)


def _owners(session: Session) -> list[str]:
    query = """
        SELECT DISTINCT rolname FROM pg_roles
         WHERE pg_has_role(current_user, oid, 'MEMBER')
           AND (rolname = current_user
                OR oid IN (SELECT relowner FROM pg_class
                            WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')))
    """
    return list(session.scalars(text(query)))


def _close(session: Session) -> None:
    """Take from everybody what Postgres gives everybody, where this role may take it."""
    database = sql.Identifier(session.scalar(text("SELECT current_database()")))
    owns, is_superuser = session.execute(
        text(
            "SELECT pg_has_role(current_user, datdba, 'MEMBER'),"
            " (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)"
            " FROM pg_database WHERE datname = current_database()"
        )
    ).one()
    if owns or is_superuser:
        # ffpe's own imports need temporary tables, whoever owns the database.
        _execute(session, "GRANT TEMPORARY ON DATABASE {db} TO CURRENT_USER", db=database)
        _execute(session, "REVOKE TEMPORARY ON DATABASE {db} FROM PUBLIC", db=database)
        _execute(session, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    if is_superuser:
        for maker in _LARGE_OBJECT_MAKERS:
            _execute(session, f"REVOKE EXECUTE ON FUNCTION pg_catalog.{maker} FROM PUBLIC")


def _settle(session: Session, role: sql.Identifier, timeout: str) -> None:
    database = sql.Identifier(session.scalar(text("SELECT current_database()")))
    settings = {
        "statement_timeout": timeout,
        "default_transaction_read_only": "on",
        # A transaction left open keeps old rows from being cleared away.
        "idle_in_transaction_session_timeout": "10min",
    }
    for setting, value in settings.items():
        _execute(
            session,
            "ALTER ROLE {role} IN DATABASE {db} SET {setting} = {value}",
            role=role,
            db=database,
            setting=sql.Identifier(setting),
            value=sql.Literal(value),
        )
