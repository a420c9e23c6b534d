-- What runs of one kind have in common, so that a run that was missed can be noticed.

ALTER TABLE runs ADD COLUMN name TEXT;  -- the template of the id; absent of a run without one

CREATE INDEX runs_by_name ON runs (name, created, state, ended) WHERE name IS NOT NULL;
