"""Matches between players: pairs of games from random openings, and what their results are worth."""
