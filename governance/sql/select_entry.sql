-- Give what is entered of an attempt.
--
-- Takes  attempt_id.
-- Gives  the fields of an entry in their order, then book, stream_ms, stream_seq; no row when it is not entered.

SELECT
  attempt_id, request_id, attempt, at_us, organization, team, key, user, application,
  business_line, model_asked, model, deployment, provider, input_tokens, cached_tokens,
  cache_write_tokens, output_tokens, reasoning_tokens, audio_input_tokens, audio_output_tokens,
  cost_nusd, price_version, ttft_us, duration_us, outcome, status, token_source, reason, stream,
  protocol, replica, added_us, decision, images, image_input_tokens, image_output_tokens,
  audio_input_us, audio_output_us, characters, search_units, experiment, defect, book, stream_ms,
  stream_seq
FROM entries WHERE attempt_id = ?;
