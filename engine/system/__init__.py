"""The machine around az: files, processes, streams, signals, cores."""
