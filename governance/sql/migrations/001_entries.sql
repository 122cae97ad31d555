-- The books: one row per entry of the ledger, and what could not be entered.
--
-- Takes  an empty database.
-- Gives  books     one row per life of a Redis (its stream ids and counters start anew with it)
--        entries   one row per attempt or correction; rows are summed, never overwritten.
--                  Columns 1 to 33 are the fields of an entry in their order (governance/ledger.py);
--                  the entry came from stream_ms-stream_seq of that book. An attempt id begins
--                  with its request id and a dot, so that its key finds exchanges too.
--        rejected  what was appended to the stream and is no entry, with its bytes and the reason

CREATE TABLE books (
  number    INTEGER PRIMARY KEY,
  name      TEXT    NOT NULL UNIQUE
);

CREATE TABLE entries (
  attempt_id          TEXT    NOT NULL PRIMARY KEY,
  request_id          TEXT    NOT NULL,
  attempt             INTEGER NOT NULL,
  at_us               INTEGER NOT NULL,
  organization        TEXT    NOT NULL,
  team                TEXT    NOT NULL,
  key                 TEXT    NOT NULL,
  user                TEXT    NOT NULL,
  application         TEXT    NOT NULL,
  business_line       TEXT    NOT NULL,
  model_asked         TEXT    NOT NULL,
  model               TEXT    NOT NULL,
  deployment          TEXT    NOT NULL,
  provider            TEXT    NOT NULL,
  input_tokens        INTEGER NOT NULL,
  cached_tokens       INTEGER NOT NULL,
  cache_write_tokens  INTEGER NOT NULL,
  output_tokens       INTEGER NOT NULL,
  reasoning_tokens    INTEGER NOT NULL,
  audio_input_tokens  INTEGER NOT NULL,
  audio_output_tokens INTEGER NOT NULL,
  cost_nusd           INTEGER NOT NULL,
  price_version       TEXT    NOT NULL,
  ttft_us             INTEGER NOT NULL,
  duration_us         INTEGER NOT NULL,
  outcome             TEXT    NOT NULL,
  status              INTEGER NOT NULL,
  token_source        TEXT    NOT NULL,
  reason              TEXT    NOT NULL,
  stream              INTEGER NOT NULL,
  protocol            TEXT    NOT NULL,
  replica             TEXT    NOT NULL,
  added_us            INTEGER NOT NULL,
  book                INTEGER NOT NULL REFERENCES books (number),
  stream_ms           INTEGER NOT NULL,
  stream_seq          INTEGER NOT NULL
);

CREATE INDEX entries_by_time ON entries (at_us);

CREATE TABLE rejected (
  book       INTEGER NOT NULL REFERENCES books (number),
  stream_ms  INTEGER NOT NULL,
  stream_seq INTEGER NOT NULL,
  reason     TEXT    NOT NULL,
  bytes      BLOB    NOT NULL,
  PRIMARY KEY (book, stream_ms, stream_seq)
) WITHOUT ROWID;
