"""`az drill`: faults that are made on purpose, to see that each is found, named and undone."""
