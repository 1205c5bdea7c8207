"""The two expected errors. Each message is one sentence that names the culprit and the way out."""


class AzError(Exception):
    """An expected error: the command line prints its sentence and leaves with `exit_code`."""

    exit_code = 2


class WrongRequest(AzError):
    """The request was wrong: an unknown name, a bad value, a file that is not there (exit 2)."""

    exit_code = 2


class Refused(AzError):
    """The request was right and the answer is no: a gate refused, a file is broken (exit 1)."""

    exit_code = 1
