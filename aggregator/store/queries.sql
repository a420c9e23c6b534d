-- Every statement of the store, by name; `aggregator/store/sqlite.py` runs them.

-- name: create_store
INSERT INTO store (only_row, id, epoch) VALUES (1, :id, 0) ON CONFLICT DO NOTHING;

-- name: store
SELECT id, epoch FROM store;

-- name: raise_epoch
UPDATE store SET epoch = epoch + 1 RETURNING epoch;

-- name: create_run
INSERT INTO runs (run, definition_hash, definition, model, pool, lane, state, term, created, opened,
                  ended, cells, samples, total_samples, cpu_seconds, engines, error, result, name)
VALUES (:run, :definition_hash, :definition, :model, :pool, :lane, :state, :term, :created, :opened,
        :ended, :cells, :samples, :total_samples, :cpu_seconds, :engines, :error, :result, :name)
ON CONFLICT DO NOTHING;

-- name: save_run
UPDATE runs SET
    pool = :pool, lane = :lane, state = :state, term = :term, opened = :opened, ended = :ended,
    samples = :samples, total_samples = :total_samples, cpu_seconds = :cpu_seconds,
    engines = :engines, error = :error, result = :result,
    output = :output, mean = :mean, standard_error = :standard_error,
    audits_passed = :audits_passed, audits_skipped = :audits_skipped
WHERE run = :run;

-- name: save_cell
INSERT INTO cells (run, cell, merged, ended_by, ended_blocks, expected)
VALUES (:run, :cell, :merged, :ended_by, :ended_blocks, :expected)
ON CONFLICT (run, cell) DO UPDATE SET
    merged = excluded.merged, ended_by = excluded.ended_by, ended_blocks = excluded.ended_blocks,
    expected = excluded.expected;

-- name: save_segment
INSERT INTO segments (run, cell, segment, statistics) VALUES (:run, :cell, :segment, :statistics)
ON CONFLICT (run, cell, segment) DO UPDATE SET statistics = excluded.statistics;

-- name: discard_segments
DELETE FROM segments WHERE run = :run AND cell = :cell AND segment >= :segment;

-- name: discard_contributors
DELETE FROM contributors WHERE run = :run AND cell = :cell AND segment >= :segment;

-- name: save_contributor
INSERT INTO contributors (run, cell, segment, host) VALUES (:run, :cell, :segment, :host)
ON CONFLICT DO NOTHING;

-- name: save_audit
INSERT INTO audits (run, cell, first_block, blocks, engine, answers)
VALUES (:run, :cell, :first_block, :blocks, :engine, :answers)
ON CONFLICT (run, cell, first_block, blocks) DO UPDATE SET
    engine = excluded.engine, answers = excluded.answers;

-- name: discard_audit
DELETE FROM audits
WHERE run = :run AND cell = :cell AND first_block = :first_block AND blocks = :blocks;

-- name: save_host
INSERT INTO hosts (host, passed, wrong, refused, wrong_at)
VALUES (:host, :passed, :wrong, :refused, :wrong_at)
ON CONFLICT (host) DO UPDATE SET
    passed = excluded.passed, wrong = excluded.wrong, refused = excluded.refused,
    wrong_at = excluded.wrong_at;

-- name: hosts
SELECT host, passed, wrong, refused, wrong_at FROM hosts;

-- name: readmit
UPDATE hosts SET refused = NULL WHERE host = :host AND refused IS NOT NULL;

-- name: suspects
SELECT DISTINCT host FROM contributors JOIN hosts USING (host) JOIN runs USING (run)
WHERE run = :run AND ended <= wrong_at ORDER BY host;

-- name: save_point
INSERT INTO history (run, cell, samples, at, estimates)
VALUES (:run, :cell, :samples, :at, :estimates)
ON CONFLICT (run, cell, samples) DO UPDATE SET at = excluded.at, estimates = excluded.estimates;

-- name: discard_points_beyond
DELETE FROM history WHERE run = :run AND cell = :cell AND samples > :samples;

-- name: discard_point
DELETE FROM history WHERE run = :run AND cell = :cell AND samples = :samples;

-- name: history
SELECT samples, at, estimates FROM history WHERE run = :run AND cell = :cell ORDER BY samples;

-- name: save_failure
INSERT INTO failures (run, cell, first_block, blocks, attempt, host, consumer, kind, text)
VALUES (:run, :cell, :first_block, :blocks, :attempt, :host, :consumer, :kind, :text);

-- name: forget_failures
DELETE FROM failures WHERE run = :run;

-- name: forget_history
DELETE FROM history WHERE run = :run;

-- name: forget_segments
DELETE FROM segments WHERE run = :run;

-- name: forget_contributors
DELETE FROM contributors WHERE run = :run;

-- name: forget_audits
DELETE FROM audits WHERE run = :run;

-- name: empty_history
DELETE FROM history WHERE run = :run AND cell = :cell;

-- name: forget_cells
DELETE FROM cells WHERE run = :run;

-- name: prunable
SELECT run FROM runs
WHERE state <> 'running' AND ended < :before
  AND (EXISTS (SELECT 1 FROM cells WHERE cells.run = runs.run)
       OR EXISTS (SELECT 1 FROM failures WHERE failures.run = runs.run))
ORDER BY ended;

-- name: is_prunable
SELECT 1 FROM runs WHERE run = :run AND state <> 'running' AND ended < :before;

-- name: holds_cells
SELECT 1 FROM cells WHERE run = :run LIMIT 1;

-- name: definition_hash
SELECT definition_hash FROM runs WHERE run = :run;

-- name: runs
SELECT run FROM runs ORDER BY created, run;

-- name: active_runs
SELECT run FROM runs WHERE state = 'running' ORDER BY created;

-- name: run
SELECT run, definition, pool, lane, state, term, created, opened, ended, cpu_seconds, engines,
       error, name, audits_passed, audits_skipped
FROM runs WHERE run = :run;

-- name: names
SELECT name, MAX(created) AS started,
       MAX(CASE WHEN state = 'finished' THEN ended END) AS succeeded
FROM runs WHERE name IS NOT NULL GROUP BY name ORDER BY MIN(created);

-- name: cells_of_run
SELECT cell, merged, ended_by, ended_blocks, expected,
       (SELECT COUNT(*) FROM history WHERE history.run = cells.run AND history.cell = cells.cell)
           AS points,
       COALESCE((SELECT MAX(samples) FROM history
                 WHERE history.run = cells.run AND history.cell = cells.cell), 0) AS last_samples
FROM cells WHERE run = :run;

-- name: segments_of_run
SELECT cell, segment, statistics FROM segments WHERE run = :run;

-- name: contributors_of_run
SELECT cell, segment, host FROM contributors WHERE run = :run;

-- name: audits_of_run
SELECT cell, first_block, blocks, engine, answers FROM audits WHERE run = :run;

-- name: segments_of_cell
SELECT statistics FROM segments WHERE run = :run AND cell = :cell;

-- name: failures_of_run
SELECT cell, first_block, blocks, attempt, host, consumer, kind, text FROM failures WHERE run = :run
ORDER BY rowid;

-- name: ended_runs
SELECT run, definition_hash, model, pool, lane, state, term, created, ended, cells, samples,
       total_samples, error, output, mean, standard_error
FROM runs WHERE state <> 'running';

-- name: result
SELECT result FROM runs WHERE run = :run;
