-- How a replica stands in the beats: until when it lives, or, below zero, how its life ended.
--
-- Whoever only fell silent may come back, and settle what it used: a machine was suspended, or a network
-- cut. So what its attempts reserved of strict budgets stays reserved, beyond what the reaper charges, until they
-- settle, until it is known that their process is dead, or for an hour. Everything else is freed at once.
--   -1           known to be dead: nothing of it will be used any more
--   -2           fell silent
--   -3           fell silent, and something of what it reserved stays
--   -<moment>    likewise, and reaped; until then it stays, us since 2024-01-01

local DEAD, SILENT, STAYING = -1, -2, -3
local STAYS = 3600000000
