-- Publish a version of the configuration: the next number, or nothing at all.
--
-- Publishing is idempotent by `stamp`: a call whose answer got lost may be sent again.
-- A version is never changed once it is written; the oldest are dropped.
--
-- KEYS[1]  live      hash  current, stamp, file; for each version n: n:document, n:digest, n:by,
--                          n:why, n:at_us, n:stamp, n:kind, n:key_id
-- ARGV[1]  document  text as written
-- ARGV[2]  digest    of the document
-- ARGV[3]  by        who publishes it
-- ARGV[4]  why       a sentence for the history
-- ARGV[5]  expected  number that must be the current one, 0 for none yet; empty for any
-- ARGV[6]  stamp     unique to this publication
-- ARGV[7]  origin    'file' when it comes from a file on start; then a file that was published
--                    last time as well is not published again
-- ARGV[8]  keep      how many versions are kept
-- ARGV[9]  now       us since 1970; empty asks the server (tests pass a value)
-- ARGV[10] after     the number is higher than this one, whatever the store remembers: limits carry
--                    the number of their configuration, and must not be taken for old ones
-- ARGV[11] kind      a word for what was done; may be left out
-- ARGV[12] key_id    of the secret that callers' keys are hashed with; may be left out
-- ARGV[13+] former   digests of the same file as it was published under former key secrets
--
-- Returns {outcome, current number}; outcome is 'published', 'unchanged' or 'conflict'.
-- The number is also published on the channel that has the name of the key.

local live = KEYS[1]
local document, digest, by, why = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local expected, stamp, origin = ARGV[5], ARGV[6], ARGV[7]
local keep, now, after = tonumber(ARGV[8]), ARGV[9], tonumber(ARGV[10])
local kind, key_id = ARGV[11] or '', ARGV[12] or ''

local current = tonumber(redis.call('HGET', live, 'current') or '0')
if redis.call('HGET', live, 'stamp') == stamp then return {'published', current} end
if origin == 'file' then
  local last = redis.call('HGET', live, 'file')
  if last == digest then return {'unchanged', current} end
  for i = 13, #ARGV do
    local former = ARGV[i]
    if last == former then
      redis.call('HSET', live, 'file', digest)
      return {'unchanged', current}
    end
  end
end
if expected ~= '' and tonumber(expected) ~= current then return {'conflict', current} end

if now == '' then
  local time = redis.call('TIME')
  now = time[1] .. string.format('%06d', time[2])
end
local number = math.max(current, after) + 1
redis.call('HSET', live,
  'current', number, 'stamp', stamp,
  number .. ':document', document, number .. ':digest', digest,
  number .. ':by', by, number .. ':why', why,
  number .. ':at_us', now, number .. ':stamp', stamp,
  number .. ':kind', kind, number .. ':key_id', key_id)
if origin == 'file' then redis.call('HSET', live, 'file', digest) end

-- Downwards from the first that is too old, as far as there are any: a smaller `keep` than last
-- time leaves nothing behind.
local old = number - keep
while old > 0 and redis.call('HEXISTS', live, old .. ':stamp') == 1 do
  redis.call('HDEL', live, old .. ':document', old .. ':digest', old .. ':by', old .. ':why',
    old .. ':at_us', old .. ':stamp', old .. ':kind', old .. ':key_id')
  old = old - 1
end
redis.call('PUBLISH', live, number)
return {'published', number}
