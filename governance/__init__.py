"""Who is calling, what it cost, and the books that prove it."""
