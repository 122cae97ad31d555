"""
What was asked for: typed, checked, versioned, live.

`models` are the settings, and `scalars` and `secrets` the values in them; `document` is YAML with
places, `references` what one place says about another, `loader` the way from text to `Config`.
`live` keeps versions in Redis and watches them; `schema` tells editors and people.
"""
