"""Load, mock vendors and benchmarks; speaks HTTP only and imports nothing of the product."""
