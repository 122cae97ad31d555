-- Sum what was spent since a moment, by everything that a budget may stand over.
--
-- Takes  since, unix microseconds.
-- Gives  one row per group: organization, team, key, user, application, business_line, model,
--        deployment, provider, cost_nusd.

SELECT organization, team, key, user, application, business_line, model, deployment, provider,
       sum(cost_nusd) AS cost_nusd
FROM entries
WHERE at_us >= ?
GROUP BY organization, team, key, user, application, business_line, model, deployment, provider;
