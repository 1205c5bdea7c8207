"""What holds for every test."""

import signal


def pytest_configure() -> None:
    """Processes that tests start listen to a closed terminal, also where the suite was started by `nohup`."""
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
