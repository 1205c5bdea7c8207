"""The state that a training step may change: copied, put back, read. Nothing here knows of faults."""
