"""Boards are read without hue: luminance and signs tell pieces, squares and the last move apart.

Matrices of a complete protanopia, deuteranopia and tritanopia (severity 1.0), for linear RGB: Machado, Oliveira and
Fernandes, "A Physiologically-based Model for Simulation of Color Vision Deficiency", IEEE TVCG 15(6), 2009. Contrast
ratio: WCAG 2.1, "relative luminance"; 3 is what its criterion 1.4.11 asks of graphics.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from rich.color import Color, ColorSystem
from rich.console import Console
from rich.text import Text

from az.engine.game import Game, State, load_game
from az.engine.terminal.board import Look, draw

EYES = {
    "all colours": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
LEAST = 3.0
COLOURS = Look(80, True, True)
PIECES = {"tictactoe": "XO", "connect4": "●○", "othello": "●○", "othello6": "●○", "checkers": "●♛"}
PIECES |= dict.fromkeys(("gomoku", "gomoku9", "hex"), "●○")
# A line of play; the drawings of all its positions are looked at, so that there are empty squares, kings and a win.
LINES = {
    "tictactoe": ["5", "1", "3", "2", "7"],
    "connect4": ["4", "3", "4", "3", "4", "3", "4"],
    "othello": ["c4", "c3", "d3"],
    "othello6": [],
    "checkers": ["11-15", "22-18", "15x22", "25x18"],
    "gomoku": ["h8", "i9", "h9"],
    "gomoku9": ["a1", "b1", "a2", "b2", "a3", "b3", "a4", "b4", "a5"],
    "hex": ["b1", "swap", "f6", "e6"],
}
STARTS = {"checkers": [None, "W:WK14,31,22:B10,K4,K29"]}


def luminance(colour: Color, eyes: np.ndarray) -> float:
    """Relative luminance (WCAG 2.1) of an sRGB colour as these eyes see it."""
    values = np.array(colour.get_truecolor()) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return float(np.clip(eyes @ linear, 0, 1) @ [0.2126, 0.7152, 0.0722])


def ratio(one: Color, other: Color, eyes: np.ndarray) -> float:
    low, high = sorted((luminance(one, eyes), luminance(other, eyes)))
    return (high + 0.05) / (low + 0.05)


def signs(drawn: Text) -> set[tuple[str, Color, Color]]:
    """(sign, its colour, its ground) of everything on the board that is not blank and has a ground of its own."""
    found = set()
    for segment in Console(width=80, color_system="truecolor").render(drawn):
        style = segment.style
        if style is not None and style.color and style.bgcolor:
            colours = (style.bgcolor, style.color) if style.reverse else (style.color, style.bgcolor)
            found |= {(sign, *colours) for sign in segment.text if not sign.isspace()}
    return found


def positions(game: Game) -> list[tuple[State | None, State]]:
    """(the position before or None, the position) along the lines."""
    found = []
    for start in STARTS.get(game.name, [None]):
        state = game.new_state() if start is None else game.parse_position(start)
        found.append((None, state))
        for text in LINES[game.name] if start is None else [sorted(game.moves(state))[0]]:
            before, state = state, game.play(state, game.parse_move(state, text))
            found.append((before, state))
    return found


def shown(colour: Color, system: ColorSystem) -> Color:
    return colour.downgrade(system)


@pytest.mark.parametrize("system", [ColorSystem.TRUECOLOR, ColorSystem.EIGHT_BIT])
@pytest.mark.parametrize("name", sorted(PIECES))
def test_every_sign_stands_out_from_its_ground(name, system):
    game = load_game(name)
    seen = set().union(*(signs(draw(game, state, COLOURS, before)) for before, state in positions(game)))
    assert {sign for sign, _, _ in seen} >= set(PIECES[name])
    weak = {
        (sign, eyes, round(value, 2))
        for (sign, colour, ground), eyes in product(seen, EYES)
        if (value := ratio(shown(colour, system), shown(ground, system), EYES[eyes])) < LEAST
    }
    assert not weak


@pytest.mark.parametrize("name", sorted(PIECES))
def test_pieces_of_the_two_sides_differ_in_shape_or_in_luminance(name):
    game = load_game(name)
    seen = set().union(*(signs(draw(game, state, COLOURS, before)) for before, state in positions(game)))
    grounds = {ground for sign, _, ground in seen if sign not in PIECES[name] + "<>"}
    pieces = {(sign, colour) for sign, colour, _ in seen if sign in PIECES[name]}
    pieces = {(sign, colour) for sign, colour in pieces if colour not in grounds}  # a line that wins is reversed
    assert len({colour for _, colour in pieces}) == 2
    for (sign, colour), (other, another) in product(pieces, pieces):
        if sign == other and colour != another:
            assert min(ratio(colour, another, eyes) for eyes in EYES.values()) >= LEAST


@pytest.mark.parametrize("width", [80, 30])
@pytest.mark.parametrize("name", sorted(PIECES))
def test_the_last_move_has_a_sign_and_not_a_colour_alone(name, width):
    game, look = load_game(name), Look(width, True, True)
    before = game.new_state()
    after = game.play(before, next(iter(game.moves(before).values())))
    assert draw(game, after, look, before).plain != draw(game, after, look).plain
