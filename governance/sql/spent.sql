-- Sum what was spent since a moment, by everything that a budget may stand over.
--
-- Takes  since, unix microseconds.
-- Gives  one row per group: organization, team, key, user, application, business_line, model,
--        deployment, provider, shadow (the experiment that a copy of a call was made for), cost_nusd.

SELECT organization, team, key, user, application, business_line, model, deployment, provider,
       CASE WHEN key = '' AND experiment LIKE '%/shadow'
            THEN substr(experiment, 1, length(experiment) - length('/shadow')) ELSE '' END AS shadow,
       sum(cost_nusd) AS cost_nusd
FROM entries
WHERE at_us >= ?
GROUP BY organization, team, key, user, application, business_line, model, deployment, provider,
         shadow;
