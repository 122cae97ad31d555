"""The operator's door: the control role, its admin port, and the command line."""
