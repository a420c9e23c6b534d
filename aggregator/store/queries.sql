-- Every statement of the store, by name; `aggregator/store/sqlite.py` runs them.

-- name: create_store
INSERT INTO store (only_row, id, epoch) VALUES (1, :id, 0) ON CONFLICT DO NOTHING;

-- name: store
SELECT id, epoch FROM store;

-- name: raise_epoch
UPDATE store SET epoch = epoch + 1 RETURNING epoch;

-- name: create_run
INSERT INTO runs (run, definition_hash, definition, model, pool, lane, state, term, created, ended,
                  cells, samples, total_samples, cpu_seconds, engines, error, result)
VALUES (:run, :definition_hash, :definition, :model, :pool, :lane, :state, :term, :created, :ended,
        :cells, :samples, :total_samples, :cpu_seconds, :engines, :error, :result)
ON CONFLICT DO NOTHING;

-- name: save_run
UPDATE runs SET
    pool = :pool, lane = :lane, state = :state, term = :term, ended = :ended, samples = :samples,
    cpu_seconds = :cpu_seconds, engines = :engines, error = :error, result = :result
WHERE run = :run;

-- name: save_cell
INSERT INTO cells (run, cell, merged) VALUES (:run, :cell, :merged)
ON CONFLICT (run, cell) DO UPDATE SET merged = excluded.merged;

-- name: save_segment
INSERT INTO segments (run, cell, segment, statistics) VALUES (:run, :cell, :segment, :statistics)
ON CONFLICT (run, cell, segment) DO UPDATE SET statistics = excluded.statistics;

-- name: save_failure
INSERT INTO failures (run, cell, first_block, blocks, attempt, host, consumer, kind, text)
VALUES (:run, :cell, :first_block, :blocks, :attempt, :host, :consumer, :kind, :text);

-- name: forget_failures
DELETE FROM failures WHERE run = :run;

-- name: active_runs
SELECT run FROM runs WHERE state = 'running' ORDER BY created;

-- name: run
SELECT run, definition, pool, lane, state, term, created, ended, cpu_seconds, engines, error
FROM runs WHERE run = :run;

-- name: cells_of_run
SELECT cell, merged FROM cells WHERE run = :run;

-- name: segments_of_run
SELECT cell, segment, statistics FROM segments WHERE run = :run;

-- name: failures_of_run
SELECT cell, first_block, blocks, attempt, host, consumer, kind, text FROM failures WHERE run = :run
ORDER BY rowid;

-- name: ended_runs
SELECT run, definition_hash, model, pool, lane, state, term, created, ended, cells, samples,
       total_samples, error
FROM runs WHERE state <> 'running';

-- name: result
SELECT result FROM runs WHERE run = :run;
