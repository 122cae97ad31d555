-- What an attempt used that is not sold by the token.
--
-- Takes  the tables of 002.
-- Gives  the last fields of an entry (governance/ledger.py); 0 for what was entered before.

ALTER TABLE entries ADD COLUMN images INTEGER NOT NULL DEFAULT 0;
ALTER TABLE entries ADD COLUMN image_input_tokens INTEGER NOT NULL DEFAULT 0;
ALTER TABLE entries ADD COLUMN image_output_tokens INTEGER NOT NULL DEFAULT 0;
ALTER TABLE entries ADD COLUMN audio_input_us INTEGER NOT NULL DEFAULT 0;
ALTER TABLE entries ADD COLUMN audio_output_us INTEGER NOT NULL DEFAULT 0;
ALTER TABLE entries ADD COLUMN characters INTEGER NOT NULL DEFAULT 0;
ALTER TABLE entries ADD COLUMN search_units INTEGER NOT NULL DEFAULT 0;
