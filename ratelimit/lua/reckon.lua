-- Tell a store that may have forgotten what was spent, from the ledger.
--
-- KEYS[1]  epoch   hash  what is known of the store's memory (see epoch.lua)
-- KEYS[2]  beats   zset  replica.boot -> heartbeat expiry
-- KEYS[3+] scopes  hashes of every scope that the sums name
-- ARGV[1]  now     us since 2024-01-01; empty asks the server
-- ARGV[2]  life    of the server for which the sums were made; empty asks which it is
-- ARGV[3]  step    0 more sums follow, 1 these are the last ones, 2 likewise, and nobody holds anything:
--                  which is believed where nothing is remembered
-- ARGV[4+] sums    packed {scope's place in KEYS, that of the limits it shares or 0, kind of period,
--                  when the period ends, spent}
--
-- Returns {the server's life, 2 known or 1 told or 0 learning, 1 when nothing is remembered}. What a counter says beyond the ledger
-- stands: the ledger may be late. Sums of a period that has ended meanwhile are left out. The last ones
-- open the strict budgets, but only in the life for which they were made, and when everybody has told
-- what it holds. Where the limits of a scope are not known, nothing is done: its sum would be lost.

--- @include gcra
--- @include governance:budget
--- @include scope
--- @include epoch

local now = clock(ARGV[1])
local life, knows, blank = learn(KEYS[1], KEYS[2], now, nil)
if knows == 2 or ARGV[2] ~= life then return { life, knows, blank } end
local memo = {}
for i = 4, #ARGV do
  local sum = cmsgpack.unpack(ARGV[i])
  local st = scope(memo, KEYS[sum[1]], now, sum[2] > 0 and KEYS[sum[2]] or nil)
  if not st then return { life, 0, blank } end
  local m = now < sum[4] and money_of(st, sum[3])
  if m and st.s[m + 2] < sum[5] then st.s[m + 2], st.dirty = sum[5], true end
end
write_scopes(memo)
local open = ARGV[3] ~= '0' and (knows == 1 or (ARGV[3] == '2' and blank == 1))
if not open then return { life, 1, blank } end
known(KEYS[1], life)
return { life, 2, blank }
