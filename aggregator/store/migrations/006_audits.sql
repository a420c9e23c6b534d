-- Chunks that are computed again on another host: who contributed to what, and who was wrong.

ALTER TABLE runs ADD COLUMN audits_passed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN audits_skipped INTEGER NOT NULL DEFAULT 0;  -- nobody could do them

CREATE TABLE contributors (
    run TEXT NOT NULL REFERENCES runs (run) ON DELETE CASCADE,
    cell INTEGER NOT NULL,
    segment INTEGER NOT NULL,
    host TEXT NOT NULL,
    PRIMARY KEY (run, cell, segment, host)
) STRICT, WITHOUT ROWID;

CREATE TABLE audits (
    run TEXT NOT NULL REFERENCES runs (run) ON DELETE CASCADE,
    cell INTEGER NOT NULL,
    first_block INTEGER NOT NULL,
    blocks INTEGER NOT NULL,
    engine TEXT NOT NULL,
    answers BLOB NOT NULL,      -- msgpack list of [host, SHA-256 of its statistics]; first the merged
    PRIMARY KEY (run, cell, first_block, blocks)
) STRICT, WITHOUT ROWID;

CREATE TABLE hosts (
    host TEXT PRIMARY KEY,
    passed INTEGER NOT NULL,    -- of its chunks, since it was last wrong
    wrong INTEGER NOT NULL,
    refused REAL,               -- seconds since the epoch; absent of a host that is not
    wrong_at REAL               -- when it was last found wrong, also of one that is readmitted
) STRICT, WITHOUT ROWID;
