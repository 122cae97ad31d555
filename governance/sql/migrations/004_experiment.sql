-- Which arm of which experiment led an attempt where it went.
--
-- Takes  the tables of 003.
-- Gives  entries.experiment, `experiment/arm`; empty for what was entered before and what no experiment
--        led. What takes part in one is found by it and by time.

ALTER TABLE entries ADD COLUMN experiment TEXT NOT NULL DEFAULT '';

CREATE INDEX entries_by_experiment ON entries (experiment, at_us) WHERE experiment <> '';
