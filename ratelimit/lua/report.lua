-- Take what an active probe found at a deployment, for all replicas.
--
-- Probes that fail in a row make it offline, for as long as the next ones will take; one that is fine ends
-- that at once. A call that was answered proves more than a list of models does: it closes the breaker of
-- whole answers.
--
-- KEYS[1]  deployment  hash    see scope.lua and breaker.lua
-- KEYS[2]  reports     hash    deployment id -> {when, 1 fine or 0, failures in a row, why, took_us}, packed
-- KEYS[3]  ledger      stream  one field e: a packed entry
-- KEYS[4]  totals      hash    sums of all entries
-- ARGV[1]  now     us since 2024-01-01; empty asks the server
-- ARGV[2]  id      of the deployment
-- ARGV[3]  fine    1, or 0 when it failed
-- ARGV[4]  most    failures in a row that make it offline
-- ARGV[5]  lasts   us for which that holds
-- ARGV[6]  why     a word for it
-- ARGV[7]  took    us
-- ARGV[8]  called  1 when it was a call that the deployment answered
-- ARGV[9]  entry   the packed ledger entry of what it cost; empty when it cost nothing
-- ARGV[10] input   tokens
-- ARGV[11] output  tokens
-- ARGV[12] cost    nano-USD
--
-- Returns the failures in a row.

--- @include gcra
--- @include governance:budget
--- @include scope
--- @include routing:choose
--- @include release

local now = clock(ARGV[1])
local known = redis.call('HGET', KEYS[2], ARGV[2])
local before = known and cmsgpack.unpack(known)
local fine = ARGV[3] == '1'
local failures = fine and 0 or (before and before[3] or 0) + 1

local d = scope({}, KEYS[1], now, nil, true)
if d then
  local h = told_health(d)
  h.offline = failures >= tonumber(ARGV[4]) and now + tonumber(ARGV[5]) or 0
  if ARGV[8] == '1' then succeeded(d, now, 1, now) end
  write_health({ [KEYS[1]] = d }, now)
end
redis.call('HSET', KEYS[2], ARGV[2],
  cmsgpack.pack({ now, fine and 1 or 0, failures, ARGV[6], tonumber(ARGV[7]) }))
if ARGV[9] ~= '' then
  book(KEYS[3], KEYS[4], { ARGV[9] }, tonumber(ARGV[10]), tonumber(ARGV[11]), tonumber(ARGV[12]))
end
return failures
