"""What stands in for a Citus cluster on one PostgreSQL: the functions that spread tables, with Citus's rules for keys.

It moves no row. What a test sees on it is a database whose tables have the keys that they have on a cluster, and that no
key could be given which a cluster refuses: when a table is spread, and at every change of a table afterwards.
"""

import os
import pwd
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from secrets import token_hex
from typing import Final

import asyncpg
import postgres as servers

from sidemeter_control.store.database import Database

__all__ = ["CLUSTER", "FAKE", "Cluster", "Spread"]

CLUSTER: Final = os.environ.get("SIDEMETER_TEST_CITUS")
"""The URL of a database with the extension citus, on a cluster that tests may make tables on."""

# As the catalogue of Citus has it, in as many columns as are asked for: 'h' by hash, 'n' and 't' on every node.
_CATALOGUE: Final = """
CREATE TABLE pg_catalog.pg_dist_partition (
    logicalrelid regclass PRIMARY KEY, partmethod "char" NOT NULL, column_name text, colocationid int, repmodel "char" NOT NULL
)
"""
_CONSTRAINED: Final = """
CREATE FUNCTION pg_catalog.citus_check() RETURNS void LANGUAGE plpgsql AS $$
DECLARE broken text;
BEGIN
    SELECT format('cannot create constraint on "%s": %s must include the distribution column %s', c.conrelid::regclass, c.conname,
        d.column_name) INTO broken
    FROM pg_dist_partition AS d JOIN pg_constraint AS c ON c.conrelid = d.logicalrelid
    WHERE d.partmethod = 'h' AND c.contype IN ('p', 'u', 'x') AND NOT EXISTS (
        SELECT FROM pg_attribute AS a WHERE a.attrelid = c.conrelid AND a.attname = d.column_name AND a.attnum = ANY (c.conkey));
    IF broken IS NULL THEN
        SELECT format('cannot create the unique index %s: it must include the distribution column %s', i.indexrelid::regclass,
            d.column_name) INTO broken
        FROM pg_dist_partition AS d JOIN pg_index AS i ON i.indrelid = d.logicalrelid AND i.indisunique
        WHERE d.partmethod = 'h' AND NOT EXISTS (
            SELECT FROM pg_attribute AS a
            WHERE a.attrelid = i.indrelid AND a.attname = d.column_name AND a.attnum = ANY (i.indkey::int2[]));
    END IF;
    IF broken IS NULL THEN
        SELECT format('cannot create foreign key constraint %s: it leads to another node', c.conname) INTO broken
        FROM pg_constraint AS c
        LEFT JOIN pg_dist_partition AS own ON own.logicalrelid = c.conrelid
        LEFT JOIN pg_dist_partition AS other ON other.logicalrelid = c.confrelid
        WHERE c.contype = 'f' AND (own.logicalrelid IS NOT NULL OR other.logicalrelid IS NOT NULL)
          AND NOT coalesce(own.repmodel = 't' AND other.repmodel = 't', false)
          AND NOT coalesce(own.partmethod = 'h' AND other.repmodel = 't', false)
          AND NOT coalesce(own.partmethod = 'h' AND other.partmethod = 'h' AND own.colocationid = other.colocationid AND EXISTS (
            SELECT FROM unnest(c.conkey, c.confkey) AS pair (attnum, fattnum)
            JOIN pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = pair.attnum AND a.attname = own.column_name
            JOIN pg_attribute AS f ON f.attrelid = c.confrelid AND f.attnum = pair.fattnum AND f.attname = other.column_name), false);
    END IF;
    IF broken IS NOT NULL THEN RAISE EXCEPTION '%', broken USING ERRCODE = 'feature_not_supported'; END IF;
END $$
"""
_BY: Final = """
CREATE FUNCTION pg_catalog.create_distributed_table(
    table_name regclass, distribution_column text, distribution_type text DEFAULT 'hash', colocate_with text DEFAULT 'default',
    shard_count int DEFAULT NULL
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE id int; beside record; kind record;
BEGIN
    IF EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = table_name) THEN
        RAISE EXCEPTION 'table "%" is already distributed', table_name;
    END IF;
    SELECT atttypid, attcollation INTO STRICT kind FROM pg_attribute WHERE attrelid = table_name AND attname = distribution_column;
    IF colocate_with IN ('none', 'default') THEN
        SELECT coalesce(max(colocationid), 0) + 1 INTO id FROM pg_dist_partition;
    ELSE
        SELECT d.colocationid, a.atttypid, a.attcollation INTO STRICT beside
        FROM pg_dist_partition AS d JOIN pg_attribute AS a ON a.attrelid = d.logicalrelid AND a.attname = d.column_name
        WHERE d.logicalrelid = colocate_with::regclass AND d.partmethod = 'h';
        IF (beside.atttypid, beside.attcollation) <> (kind.atttypid, kind.attcollation) THEN
            RAISE EXCEPTION 'cannot colocate tables % and %: distribution column types differ', colocate_with, table_name;
        END IF;
        id := beside.colocationid;
    END IF;
    INSERT INTO pg_dist_partition VALUES (table_name, 'h', distribution_column, id, 's');
    PERFORM citus_check();
END $$
"""
_EVERYWHERE: Final = """
CREATE FUNCTION pg_catalog.create_reference_table(table_name regclass) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = table_name) THEN
        RAISE EXCEPTION 'table "%" is already distributed', table_name;
    END IF;
    INSERT INTO pg_dist_partition VALUES (table_name, 'n', NULL, NULL, 't');
    PERFORM citus_check();
END $$
"""
_LATER: Final = """
CREATE FUNCTION pg_catalog.citus_later() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN PERFORM citus_check(); END'
"""
_TRIGGER: Final = """
CREATE EVENT TRIGGER citus_check ON ddl_command_end WHEN TAG IN ('ALTER TABLE', 'CREATE INDEX')
EXECUTE FUNCTION pg_catalog.citus_later()
"""
FAKE: Final = ("SET allow_system_table_mods = on", _CATALOGUE, _CONSTRAINED, _BY, _EVERYWHERE, _LATER, _TRIGGER)
"""What makes of a database one that has these functions, where CREATE EXTENSION citus would."""


class Spread(servers.Server):
    """The same server, whose new databases are spread."""

    template = "spread"

    def __init__(self, of: servers.Server) -> None:
        user = pwd.getpwnam("nobody") if os.getuid() == 0 else None
        super().__init__(of.directory, user)

    async def prepare(self) -> None:
        """See `Server.prepare`."""
        if not self._migrated:
            await self.execute(f"CREATE DATABASE {self.template}")
            await self.execute(*FAKE, database=self.template)
            database = await Database.open(self.url(self.template), witness=str(self.directory / "none"))
            await database.migrate()
            await database.distribute(lambda *_: None)
            await database.close()
            self._migrated = True


class Cluster(servers.Server):
    """A real one. Each database is a schema of its own in the one at `url`, of few shards, and is gone afterwards."""

    def __init__(self, url: str, directory: Path) -> None:
        super().__init__(directory, None)
        self._at = url

    @asynccontextmanager
    async def migrated(self) -> AsyncIterator[str]:
        """See `Server.migrated`."""
        name = f"test_{token_hex(8)}"
        conn = await asyncpg.connect(self._at)
        try:
            await conn.execute(f"CREATE SCHEMA {name}")
            url = f"{self._at}{'&' if '?' in self._at else '?'}search_path={name}&citus.shard_count=4"
            database = await Database.open(url, witness=str(self.directory / "none"))
            await database.migrate()
            await database.distribute(lambda *_: None)
            await database.close()
            yield url
        finally:
            await conn.execute(f"DROP SCHEMA {name} CASCADE")
            await conn.close()
