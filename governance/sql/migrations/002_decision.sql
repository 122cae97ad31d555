-- How the deployment of an attempt was chosen.
--
-- Takes  the tables of 001.
-- Gives  entries.decision, the compact form of routing/decision.py; empty for what was entered before.

ALTER TABLE entries ADD COLUMN decision TEXT NOT NULL DEFAULT '';
