"""Text that came from a file, a model or a game, made fit for a terminal: one line, printable, of bounded length."""

from __future__ import annotations

MOST_SENTENCE = 1000  # characters of a whole message
MOST_QUOTED = 80  # characters of what a message quotes from a file


def one_line(text: str, most: int = MOST_SENTENCE) -> str:
    """`text` without line breaks, control characters, escape sequences or marks that turn the direction of writing.

    What cannot be printed becomes U+FFFD, white space becomes single blanks, and what is longer than `most` characters
    is cut and ends in "…".
    """
    words = " ".join(text[: 4 * most].split())
    cut = len(words) > most or len(text) > 4 * most
    return printable(f"{words[: most - 1].rstrip()}…" if cut else words)


def printable(text: str) -> str:
    """`text` with U+FFFD for every character that a terminal would obey instead of showing it."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "\ufffd" for c in text)


def quoted(value: object, most: int = MOST_QUOTED) -> str:
    """A value that a file holds, as a message quotes it: printable and cut."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**30:
        return "an enormous number"
    if isinstance(value, list | dict | tuple | set):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    return one_line(value if isinstance(value, str) else repr(value), most)


def counted(number: int, one: str, more: str = "") -> str:
    """Such as "1 game" and "2 games"; `more` is the word for several where an s alone does not make it."""
    return f"{number:,} {one if number == 1 else more or one + 's'}"
