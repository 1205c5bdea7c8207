"""A training run: its folder, its loop, its processes, its log, and what happens at a fault."""
