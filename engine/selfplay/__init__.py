"""Self-play: many games at once on threads and in processes, and the files that they make."""
