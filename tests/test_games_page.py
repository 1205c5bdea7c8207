"""docs/games.md lists every game that ships, as its file says: one that is added or changed must be told there."""

from __future__ import annotations

import random
import re
from importlib.metadata import entry_points

import pytest
from command_line import ROOT

from az.engine.game import game_names, load_game
from az.engine.inference.model_resolver import default_model

SHIPPED = sorted(set(game_names()) - {point.name for point in entry_points(group="az.games")})


def rows(heading: str) -> dict[str, list[str]]:
    """The cells behind each game's name, of the table that begins with these columns."""
    table = (ROOT / "docs" / "games.md").read_text().split(heading)[1].split("\n\n")[0]
    lines = re.findall(r"^\| `(\w+)` \|(.*)\|$", table, re.MULTILINE)
    return {name: [cell.strip() for cell in rest.split("|")] for name, rest in lines}


WORDS, FACTS = rows("| game | rules |"), rows("| game | actions |")


def test_every_game_is_listed_and_no_other():
    assert sorted(WORDS) == sorted(FACTS) == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_the_facts_are_those_of_the_file(name):
    game = load_game(name)
    planes = "×".join(map(str, game.planes_shape))
    facts = [game.num_actions, planes, game.max_plies, len(game.symmetries), "yes" if default_model(name) else "no"]
    assert FACTS[name] == list(map(str, facts))


@pytest.mark.parametrize("name", SHIPPED)
def test_who_begins_and_the_moves_and_positions_are_real(name):
    game = load_game(name)
    assert game.board is not None
    _, begins, moves, position = WORDS[name]
    assert begins == game.board.players[0]
    for text in re.findall("`([^`]*)`", position):
        if re.search(r"\d", text) and text not in SHIPPED:
            assert game.parse_position(text).any(), text
    every = {text for state in walk(game) for text in game.moves(state)}
    shape = {re.sub(r"\d+", "1", re.sub("[a-o](?=[0-9])", "a", text)) for text in every}
    for text in re.findall("`([^`]*)`", moves):
        assert re.sub(r"\d+", "1", re.sub("[a-o](?=[0-9])", "a", text)) in shape, text


def walk(game):
    """Positions of some games: enough for a multiple jump, a pass and a swap."""
    for seed in range(40):
        draw, state = random.Random(seed), game.new_state()
        while game.moves(state):
            yield state
            state = game.play(state, draw.choice(list(game.moves(state).values())))
