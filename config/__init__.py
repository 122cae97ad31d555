"""What was asked for: typed, checked, versioned, live."""
