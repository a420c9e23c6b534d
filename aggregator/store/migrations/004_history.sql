-- How the estimates of each cell converged, for plots: few points, thinned as a run grows.

CREATE TABLE history (
    run TEXT NOT NULL REFERENCES runs (run) ON DELETE CASCADE,
    cell INTEGER NOT NULL,
    samples INTEGER NOT NULL,
    at REAL NOT NULL,           -- seconds since the epoch
    estimates BLOB NOT NULL,    -- little-endian doubles: mean, standard error of each output; NaN: unknown
    PRIMARY KEY (run, cell, samples)
) STRICT, WITHOUT ROWID;
