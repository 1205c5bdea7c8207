"""What holds for every test."""

import signal


def pytest_configure() -> None:
    """Processes that tests start listen to a closed terminal and to Ctrl-C, also where the suite was started by `nohup`
    or in the background of a shell, which has both ignored."""
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
