"""Training loops with known faults, adapters for tools that watch a loop, and a scorer. See ../README.md."""
