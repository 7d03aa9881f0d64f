"""The tables of the rollback witness: what this site is, and what it remembers of its peer."""

import sqlite3
from uuid import uuid4

# `witness_runs` and `witness_pads` are what the peer may cut and use by itself, as this site has
# acknowledged; what lies below `passed` may have been used and is not opened again. `fresh` has
# the held keys of the peer that may be consumed here without asking it first.
WITNESS_TABLES = """
CREATE TABLE witness (
  one INTEGER PRIMARY KEY CHECK (one = 1), incarnation TEXT NOT NULL,
  state TEXT NOT NULL DEFAULT 'new', reason TEXT, era INTEGER NOT NULL DEFAULT 0,
  closing INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE witness_peer (
  one INTEGER PRIMARY KEY CHECK (one = 1), incarnation TEXT, refused TEXT,
  state TEXT NOT NULL DEFAULT 'new', era INTEGER NOT NULL DEFAULT 0,
  closing INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE witness_heads (
  role TEXT PRIMARY KEY, number INTEGER NOT NULL, seq INTEGER NOT NULL, hash TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE witness_runs (
  block_id INTEGER NOT NULL, start INTEGER NOT NULL, stop INTEGER NOT NULL,
  passed INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (block_id, start)
) WITHOUT ROWID;
CREATE TABLE witness_pads (
  lane INTEGER NOT NULL, segment INTEGER NOT NULL, stop INTEGER NOT NULL,
  passed INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (lane, segment)
) WITHOUT ROWID;
CREATE TABLE preshared_before (sealed BLOB NOT NULL);
CREATE TABLE fresh (key_id TEXT PRIMARY KEY REFERENCES keys, since REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX fresh_since ON fresh (since);
"""


def begin_witness(connection: sqlite3.Connection) -> None:
    """A new store is a new incarnation, and knows no peer."""
    connection.execute("INSERT INTO witness (one, incarnation) VALUES (1, ?)", (str(uuid4()),))
    connection.execute("INSERT INTO witness_peer (one) VALUES (1)")
