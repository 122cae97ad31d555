"""The edge and its supervisor: admits, relays and settles every exchange."""
