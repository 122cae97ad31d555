-- Which life of the store's memory this is, and whether strict budgets may be admitted in it.
--
-- A server that was started anew, promoted or emptied may have forgotten leases and what was spent.
-- Until that is known again it is learning: every replica that lived asserts what it holds, then a
-- control reckons what was spent from the ledger. Both are notes in one hash:
--   known           the life in which strict budgets are admitted
--   learning since  the life that is being learnt, and since when, us since 2024-01-01
--   blank           1 when nothing was remembered, not even who lived
--   told            1 when every replica has asserted, or none that has not can still hold anything
--   a:<member>      1 when that replica.boot has asserted in the life that is being learnt
-- A life is the server's run id: a new one with each start, and another on each server.

-- A lease hangs on its replica's beat, which is good for so long.
local BEAT_LIFE = 10000000

-- Returns the server's life.
local function this_life()
  return string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
end

-- Takes the epoch's key, the beats' key, now, and the replica.boot that has asserted (nil when none
-- has). Returns this life, what it is (2 known, 1 told, 0 learning), and 1 when nothing is remembered.
local function learn(key, beats, now, member)
  local life = this_life()
  local e = {}
  local flat = redis.call('HGETALL', key)
  for i = 1, #flat, 2 do e[flat[i]] = flat[i + 1] end
  if e.known == life then return life, 2, 0 end
  if e.learning ~= life or tonumber(e.since) > now then
    e = { learning = life, since = string.format('%.0f', now), known = e.known,
      blank = e.known and '0' or '1', told = '0' }
    redis.call('DEL', key)
    for field, value in pairs(e) do redis.call('HSET', key, field, value) end
  end
  if member then
    redis.call('HSET', key, 'a:' .. member, 1)
    e['a:' .. member] = '1'
  end
  local blank = tonumber(e.blank)
  if e.told == '1' then return life, 1, blank end
  local told = now - tonumber(e.since) >= BEAT_LIFE
  if not told and blank == 0 then
    -- Whoever has not beaten for a life before the last beat of all was dead before this life began.
    local found = redis.call('ZRANGE', beats, 0, -1, 'WITHSCORES')
    local last = tonumber(found[#found] or 0)
    told = true
    for i = 1, #found, 2 do
      local expires = tonumber(found[i + 1])
      if expires > 0 and expires > last - BEAT_LIFE and not e['a:' .. found[i]] then told = false end
    end
  end
  if told then redis.call('HSET', key, 'told', 1) end
  return life, told and 1 or 0, blank
end

-- Takes the epoch's key and this life. From now on strict budgets are admitted.
local function known(key, life)
  redis.call('DEL', key)
  redis.call('HSET', key, 'known', life)
end
