-- The first estimate of an ended run, so that lists of runs need not read results.

ALTER TABLE runs ADD COLUMN output TEXT;
ALTER TABLE runs ADD COLUMN mean REAL;            -- absent where there is none
ALTER TABLE runs ADD COLUMN standard_error REAL;  -- absent where it is not known
