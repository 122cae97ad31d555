"""
Drills: what the gateway promises for the day on which things die, tried on real processes.

`kill9` kills edges and the control under load, `chaos` does to Redis what Redis may do to us.
`failover` has the store's primary replaced by Sentinels and in a cluster.
These compare the ledger with the mock vendor's own books, attempt by attempt, and fail when a law is broken.
`staleness` looks for replicas that judge by an old quota.
`python -m loadtests.drills` names these and those that drive the scripts themselves (`tests/drills`).
"""
