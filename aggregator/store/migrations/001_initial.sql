-- What the ledger must remember: runs, merged block ranges, exact sums per segment, failures.

CREATE TABLE store (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    id TEXT NOT NULL,           -- told to the broker, so that another store is not used by mistake
    epoch INTEGER NOT NULL      -- raised by each aggregator that takes over; fences off older ones
) STRICT;

CREATE TABLE runs (
    run TEXT PRIMARY KEY,
    definition_hash BLOB NOT NULL,
    definition BLOB NOT NULL,   -- msgpack, as in declare.v1
    model TEXT NOT NULL,
    pool TEXT NOT NULL,
    lane TEXT NOT NULL,
    state TEXT NOT NULL,
    term INTEGER NOT NULL,
    created REAL NOT NULL,      -- seconds since the epoch
    ended REAL,
    cells INTEGER NOT NULL,
    samples INTEGER NOT NULL,   -- merged, of all cells
    total_samples INTEGER NOT NULL,
    cpu_seconds REAL NOT NULL,
    engines TEXT NOT NULL,      -- separated by spaces
    error TEXT,
    result TEXT                 -- JSON, of ended runs
) STRICT;

CREATE TABLE cells (
    run TEXT NOT NULL REFERENCES runs (run) ON DELETE CASCADE,
    cell INTEGER NOT NULL,
    merged BLOB NOT NULL,       -- msgpack list of [first block, one past the last]
    PRIMARY KEY (run, cell)
) STRICT, WITHOUT ROWID;

CREATE TABLE segments (
    run TEXT NOT NULL REFERENCES runs (run) ON DELETE CASCADE,
    cell INTEGER NOT NULL,
    segment INTEGER NOT NULL,   -- number of the checkpoint that ends it
    statistics BLOB NOT NULL,   -- msgpack, as in partial.v1
    PRIMARY KEY (run, cell, segment)
) STRICT, WITHOUT ROWID;

CREATE TABLE failures (
    run TEXT NOT NULL REFERENCES runs (run) ON DELETE CASCADE,
    cell INTEGER NOT NULL,
    first_block INTEGER NOT NULL,
    blocks INTEGER NOT NULL,
    attempt TEXT NOT NULL,      -- decimal: an unsigned 64-bit number
    host TEXT NOT NULL,
    consumer TEXT NOT NULL,
    kind TEXT NOT NULL,
    text TEXT NOT NULL
) STRICT;

CREATE INDEX failures_of_run ON failures (run);
