"""How good a network is: solved positions, the value against known outcomes, and a ladder of players."""
