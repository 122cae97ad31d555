-- Enter one attempt; one that is entered already stays as it is.
--
-- Takes  the fields of an entry in their order, then book, stream_ms, stream_seq.
-- Gives  nothing; the number of changed rows tells whether it was new.

INSERT INTO entries (
  attempt_id, request_id, attempt, at_us, organization, team, key, user, application,
  business_line, model_asked, model, deployment, provider, input_tokens, cached_tokens,
  cache_write_tokens, output_tokens, reasoning_tokens, audio_input_tokens, audio_output_tokens,
  cost_nusd, price_version, ttft_us, duration_us, outcome, status, token_source, reason, stream,
  protocol, replica, added_us, decision, images, image_input_tokens, image_output_tokens,
  audio_input_us, audio_output_us, characters, search_units, experiment, defect, book, stream_ms,
  stream_seq
) VALUES (
  ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?,
  ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?
)
ON CONFLICT (attempt_id) DO NOTHING;
