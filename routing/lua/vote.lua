-- Take a caller's word on one of its answers; each is judged once.
--
-- KEYS[1]  lessons  hash    model NUL task or kind -> lesson (see lesson.lua); a kind is a task, a byte 31 and more
-- KEYS[2+] asked    hashes  request id -> {key, model, task or kind, 1 when it was judged}
-- ARGV[1]  now      us since 2024-01-01; empty asks the server (tests pass a value)
-- ARGV[2]  request  its id
-- ARGV[3]  key      who judges
-- ARGV[4]  score    thousandths, from 0 to 1000
--
-- Returns 1 when it counts, 2 when the answer was judged before, 0 when no such call of this key is
-- remembered (whether it is another key's is not said).

--- @include lesson

for i = 2, #KEYS do
  local raw = redis.call('HGET', KEYS[i], ARGV[2])
  if raw then
    local call = cmsgpack.unpack(raw)
    if call[1] ~= ARGV[3] then return 0 end
    if call[4] == 1 then return 2 end
    call[4] = 1
    redis.call('HSET', KEYS[i], ARGV[2], cmsgpack.pack(call))
    local now, kind = moment(ARGV[1]), call[3]
    local task = string.match(kind, '^[^\31]*')
    for _, each in ipairs(task == kind and { kind } or { kind, task }) do
      add(KEYS[1], call[2] .. '\0' .. each, { 0, 0, 1, ARGV[4] / 1000, 0, 0, 0, 0 }, now)
    end
    return 1
  end
end
return 0
