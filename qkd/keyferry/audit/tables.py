"""The tables of the audit: in every store, and in the file that a bundle is read into."""

import sqlite3
import uuid

# `covered` and `exported` count the records of a chain that the newest checkpoint covers and that
# the collector has. `spans` fixes the order of the records: the one numbered `start` is record
# `first` of the chain, and so on up to `last`. `tree` keeps inner nodes from level 8 on. Rows of
# `peer_heads` are what this site countersigned for the other one.
AUDIT_TABLES = """
CREATE TABLE audit_log (one INTEGER PRIMARY KEY CHECK (one = 1), log_id TEXT NOT NULL);
CREATE TABLE chains (
  role TEXT NOT NULL, number INTEGER NOT NULL, covered INTEGER NOT NULL DEFAULT 0,
  exported INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (role, number)
) WITHOUT ROWID;
CREATE TABLE audit (
  chain TEXT NOT NULL, seq INTEGER NOT NULL, time REAL NOT NULL, event TEXT NOT NULL,
  prev TEXT NOT NULL, hash TEXT NOT NULL, mac TEXT NOT NULL DEFAULT '', PRIMARY KEY (chain, seq)
) WITHOUT ROWID;
CREATE TABLE spans (
  start INTEGER PRIMARY KEY, chain TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL
);
CREATE INDEX spans_chain ON spans (chain, first);
CREATE TABLE tree (
  level INTEGER NOT NULL, number INTEGER NOT NULL, hash BLOB NOT NULL, PRIMARY KEY (level, number)
) WITHOUT ROWID;
CREATE TABLE checkpoints (
  size INTEGER PRIMARY KEY, note TEXT NOT NULL, countersignature TEXT
);
CREATE TABLE signing_keys (
  number INTEGER PRIMARY KEY, public_key TEXT NOT NULL, endorsement TEXT NOT NULL
);
CREATE TABLE peer_keys (
  position INTEGER PRIMARY KEY, number INTEGER NOT NULL, public_key TEXT NOT NULL UNIQUE,
  endorsement TEXT NOT NULL
);
CREATE TABLE peer_heads (
  position INTEGER PRIMARY KEY, origin TEXT NOT NULL UNIQUE, size INTEGER NOT NULL,
  note TEXT NOT NULL, recorded INTEGER NOT NULL DEFAULT 0
);
"""


def begin_log(connection: sqlite3.Connection) -> str:
    """Give the log a new name: at its beginning, and when it goes on from a backup.

    The other site countersigns one growing log under one name. Returns the name.
    """
    log_id = uuid.uuid4().hex
    connection.execute("INSERT OR REPLACE INTO audit_log VALUES (1, ?)", (log_id,))
    return log_id
