-- Where and why a cell ended, what it is expected to take, and since when a time limit counts.

ALTER TABLE runs ADD COLUMN opened REAL NOT NULL DEFAULT 0;  -- seconds since the epoch
UPDATE runs SET opened = created;

ALTER TABLE cells ADD COLUMN ended_by TEXT;         -- both are absent of a cell that goes on
ALTER TABLE cells ADD COLUMN ended_blocks INTEGER;  -- what is merged beyond is overshoot
ALTER TABLE cells ADD COLUMN expected INTEGER;      -- blocks, where they can be told
