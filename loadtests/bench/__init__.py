"""
What the gateway costs beside a bare native proxy, measured on this machine.

`figures` is the table of rows with their targets and the arithmetic, `measure` takes the measurements, `report` tells them.
`ground` starts and ends the processes, `usage` reads what they used, `wrk` and `held` make the load, `nginx` and `gateway` are the two contestants.
"""
