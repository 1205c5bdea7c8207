"""One file for each command: what it does with a request that `cli.py` has read."""
