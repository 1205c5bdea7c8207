"""What a machine can do: speed of search and self-play, and a signature that says whether the search changed."""
