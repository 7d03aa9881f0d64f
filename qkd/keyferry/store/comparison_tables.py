"""The tables of comparisons of key management systems."""

# `comparisons`: the newest of each policy. `comparison_requests`: what the peer asked to be looked
# at; `answer` holds fingerprints under one-time keys, which say nothing without them.
COMPARISON_TABLES = """
CREATE TABLE comparisons (
  policy TEXT PRIMARY KEY, compared_at REAL NOT NULL DEFAULT 0,
  generations TEXT NOT NULL DEFAULT '[]', bytes_compared TEXT NOT NULL DEFAULT '[]',
  findings TEXT NOT NULL DEFAULT '[]', ordered_for INTEGER, trouble TEXT
) WITHOUT ROWID;
CREATE TABLE comparison_requests (
  position INTEGER PRIMARY KEY AUTOINCREMENT, request_id TEXT NOT NULL UNIQUE,
  policy TEXT NOT NULL UNIQUE, generations TEXT NOT NULL, key_ids TEXT NOT NULL,
  expires_at REAL NOT NULL, answer TEXT
);
"""
