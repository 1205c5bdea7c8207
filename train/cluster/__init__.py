"""Games from other machines: record files that appear in a folder, and self-play on a Ray cluster."""
