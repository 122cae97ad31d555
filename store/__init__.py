"""Where things are kept: Redis, its script bundles, and SQL."""
