-- How a replica stands in the beats: until when it lives, or, below zero, how its life ended.
--
-- Whoever only fell silent may come back, and settle what it used: a machine was suspended, or a network
-- cut. So what its attempts reserved of strict budgets stays reserved, beyond what the reaper charges, until they
-- settle, until it is known that their process is dead, or until the budget's period ends. Everything else is freed
-- at once. For as long it is remembered what was charged, and which settlements were applied: however
-- late they come, they correct it, each once.
--   -1           known to be dead: nothing of it will be used any more
--   -2           fell silent
--   -<moment>    likewise, and was reaped then, us since 2024-01-01; it may come back whenever it likes

local DEAD, SILENT = -1, -2
