"""The expected errors. Each message is one sentence that names the culprit and the way out."""

from az.engine.printable import one_line


class AzError(Exception):
    """An expected error: the command line prints its sentence and leaves with `exit_code`.

    The sentence may quote a file, a model or a game: it is made one printable line of bounded length here, so that
    whatever shows it, a terminal, a log or a page, is not at the mercy of what was quoted.
    """

    exit_code = 2

    def __init__(self, sentence: str) -> None:
        super().__init__(one_line(sentence))


class WrongRequest(AzError):
    """The request was wrong: an unknown name, a bad value, a file that is not there (exit 2)."""

    exit_code = 2


class NothingToDo(WrongRequest):
    """What was asked for is done already: `az resume --finished-ok` takes it for a success."""


class Refused(AzError):
    """The request was right and the answer is no: a gate refused, a file is broken (exit 1)."""

    exit_code = 1
