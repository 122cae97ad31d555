"""Limits and the gate: what may be admitted, and how it is settled."""
