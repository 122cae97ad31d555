"""
What was asked for: typed, checked, versioned, live.

`models` are the settings, and `scalars` and `secrets` the values in them; `document` is YAML with
places (`node`, `outline`), `clashes` what is wrong between places, `loader` the way from text to `Config`.
`live` keeps versions in Redis and watches them; `changes` makes one document of another, and
`differences` says what changed; `schema` tells editors and people.
"""
