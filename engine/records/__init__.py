"""Self-play rows on disk: the container, its header, its arrays, and what is wrong with a row."""
