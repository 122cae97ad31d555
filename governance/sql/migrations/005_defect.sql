-- What was wrong with an answer that an experiment looked at.
--
-- Takes  the tables of 004.
-- Gives  entries.defect in thousandths: 0 for an answer without fault, and for what nobody looked at.

ALTER TABLE entries ADD COLUMN defect INTEGER NOT NULL DEFAULT 0;
