"""Digests of whole tables, computed where the rows are.

A row is its columns in the order of their names, each in binary with its length ahead; a table
is the SHA-256 over the sorted SHA-256 of its rows. So the same rows give the same digest in any
database, whatever order they came in. Partitions are tables of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from psycopg import Connection, sql

from featurestore.model_versions import canonical_json

# Per table the statement that gives its digest. In buckets of the first two bytes, since one
# aggregate cannot hold more than a gigabyte. Values are sent as binary COPY sends them.
_STATEMENTS = """
SELECT n.nspname || '.' || c.relname AS name,
       format('SELECT coalesce(sum(n), 0)::bigint,'
              ' encode(sha256(coalesce(string_agg(h, '''' ORDER BY bucket), '''')), ''hex'')'
              ' FROM (SELECT substr(h, 1, 2) AS bucket, count(*) AS n,'
              ' sha256(string_agg(h, '''' ORDER BY h)) AS h'
              ' FROM (SELECT sha256(%s) AS h FROM ONLY %I.%I) AS hashed GROUP BY 1) AS buckets',
              coalesce(string_agg(format(
                  'coalesce(int4send(octet_length(%1$I.%2$I(%3$I))) || %1$I.%2$I(%3$I),'
                  ' ''\\xffffffff'')', tn.nspname, p.proname, a.attname), ' || '
                  ORDER BY a.attname COLLATE "C"), ''''''''''),
              n.nspname, c.relname) AS statement
  FROM pg_class AS c
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
  LEFT JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN pg_type AS t ON t.oid = a.atttypid
  LEFT JOIN pg_proc AS p ON p.oid = t.typsend
  LEFT JOIN pg_namespace AS tn ON tn.oid = p.pronamespace
 WHERE c.relkind = 'r' AND c.relpersistence <> 't'
   AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
   AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_class'::regclass
                      AND d.objid = c.oid AND d.deptype = 'e')
 GROUP BY n.nspname, c.relname
 ORDER BY 1
"""

_COMPARISON = """
SELECT set_config('ffpe.expected', {expected}, true);
DO $comparison$
DECLARE
    expected jsonb := current_setting('ffpe.expected')::jsonb;
    found jsonb := '{{}}';
    one record;
    n bigint;
    digest text;
BEGIN
    FOR one IN {statements} LOOP
        EXECUTE one.statement INTO n, digest;
        found := found || jsonb_build_object(
            one.name, jsonb_build_object('n_rows', n, 'sha256', digest));
    END LOOP;
    IF found <> expected THEN
        RAISE EXCEPTION 'the content of % is not what the manifest says', (
            SELECT string_agg(key, ', ' ORDER BY key)
              FROM jsonb_each(found) AS f FULL JOIN jsonb_each(expected) AS e USING (key)
             WHERE f.value IS DISTINCT FROM e.value);
    END IF;
END
$comparison$;
"""


@dataclass(frozen=True, slots=True)
class TableDigest:
    """What a table holds.

    Attributes
    ----------
    n_rows : int
    sha256 : str
    """

    n_rows: int
    sha256: str


def table_digests(connection: Connection[Any]) -> dict[str, TableDigest]:
    """Digest of every table of the database, by ``schema.table``.

    Parameters
    ----------
    connection : psycopg.Connection
        Digests are of one moment only in a transaction that sees one.
    """
    digests = {}
    for name, statement in connection.execute(_STATEMENTS).fetchall():
        row = connection.execute(statement).fetchone()
        assert row is not None  # noqa: S101 - an aggregate
        digests[name] = TableDigest(*row)
    return digests


def comparison(connection: Connection[Any], expected: Mapping[str, TableDigest]) -> str:
    """A script that fails where a database's tables are not exactly these, as psql runs it.

    Parameters
    ----------
    connection : psycopg.Connection
        Says how text is quoted.
    expected : mapping of str to TableDigest
    """
    told = canonical_json({name: asdict(table) for name, table in expected.items()})
    return (
        sql.SQL(_COMPARISON)
        .format(expected=sql.Literal(told), statements=sql.SQL(_STATEMENTS))
        .as_string(connection)
    )
