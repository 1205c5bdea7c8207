"""What holds for every test."""

import signal
import sys
from typing import Any

import pytest


def pytest_configure() -> None:
    """Processes that tests start listen to a closed terminal and to Ctrl-C, also where the suite was started by `nohup`
    or in the background of a shell, which has both ignored."""
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def torch_as_it_was():
    """A test that leaves gradients off would fail many others in its process: it fails itself."""
    yield
    torch: Any = sys.modules.get("torch")
    if torch is not None and not torch.is_grad_enabled():
        torch.set_grad_enabled(True)
        pytest.fail("gradients are off after this test")
