-- Drive a deployment's queue, as the scripts of admission and settlement do: join, ask who is next, serve.
--
-- KEYS[1]  deployment  hash whose field w is the queue
-- ARGV[1]  now         us since 2024-01-01
-- ARGV[2+] steps       packed: {"join", ticket}, {"serve", ticket, tokens}, {"next", n}, {"ahead", ticket}
--
-- Returns what each step gave, packed: whether there was room, nothing, attempt ids in turn, a number.

--- the queue's own functions come before

local now = tonumber(ARGV[1])
local raw = redis.call('HGET', KEYS[1], 'w')
local d = { w = raw }
local gave = {}
for i = 2, #ARGV do
  local step = cmsgpack.unpack(ARGV[i])
  local q = queue_of(d, now)
  if step[1] == 'join' then
    gave[i - 1] = join(d, now, step[2])
  elseif step[1] == 'serve' then
    if q then serve(d, step[2], step[3]) end
    gave[i - 1] = true
  elseif step[1] == 'next' then
    local ids, without = {}, {}
    while q and #ids < step[2] do
      local t = next_of(q, without)
      if not t then break end
      ids[#ids + 1] = t[1]
      without[t[1]] = true
    end
    gave[i - 1] = ids
  else
    gave[i - 1] = q and ahead(q, step[2]) or 0
  end
end
if d.requeued then write_queue(KEYS[1], d) end
return cmsgpack.pack(gave)
