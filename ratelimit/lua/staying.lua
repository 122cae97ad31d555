-- Tell what stays reserved of strict budgets for attempts of a replica that fell silent (see lives.lua).
--
-- KEYS[1]  graves  hash    attempt id -> tombstone, of that replica.boot
-- KEYS[2+] scopes  hashes of every scope that the tombstones name in what stays
-- ARGV[1]  now     us since 2024-01-01; empty asks the server
-- ARGV[2+] ids     of attempts, each once
--
-- Returns {of how many attempts something stays, the sum of the largest that stays of each of them,
-- then scope's key, kind of period, amount, of all that stays}. A period that has ended took what was
-- reserved in it along.

--- @include gcra
--- @include governance:budget
--- @include scope

local now = clock(ARGV[1])
local memo, found = {}, { 0, 0 }
for i = 2, #ARGV do
  local raw = redis.call('HGET', KEYS[1], ARGV[i])
  local stays = raw and cmsgpack.unpack(raw)[9] or {}
  local most = 0
  for k = 1, #stays, 5 do
    local st = scope(memo, stays[k], now, stays[k + 1] ~= '' and stays[k + 1] or nil)
    local m = st and money_of(st, stays[k + 2])
    if m and st.s[m + 1] == stays[k + 3] then
      most = math.max(most, stays[k + 4])
      local n = #found
      found[n + 1], found[n + 2], found[n + 3] = stays[k], stays[k + 2], stays[k + 4]
    end
  end
  if most > 0 then found[1], found[2] = found[1] + 1, found[2] + most end
end
return found
