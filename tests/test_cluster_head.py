"""Processes of a cluster that lose each other: a player that is asked nothing, a head that is gone, silent or not."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time

from az.train.cluster.ray_fleet import Head


def test_a_player_that_is_asked_nothing_ends_by_itself():
    script = """
import time
from az.train.cluster.ray_fleet import Lonely
lonely = Lonely(3.0)
for _ in range(6):
    time.sleep(1.0)
    lonely.heard()
print("heard", flush=True)
time.sleep(200)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stdout) == (0, "heard\n")


def test_a_head_that_has_gone_is_seen(monkeypatch):
    monkeypatch.setattr("az.train.cluster.ray_fleet.HEAD_EVERY", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        head = Head(f"127.0.0.1:{listening.getsockname()[1]}")
        time.sleep(1.0)
        assert head.gone == ""
    deadline = time.monotonic() + 60
    while not head.gone and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "cannot be reached any more (nothing answers there: " in head.gone


def test_a_process_that_was_stopped_for_long_does_not_take_the_head_for_gone():
    script = """
import socket, time
from az.train.cluster import ray_fleet
ray_fleet.HEAD_EVERY, ray_fleet.HEAD_SILENT = 0.05, 1.0
with socket.create_server(("127.0.0.1", 0)) as listening:
    head = ray_fleet.Head(f"127.0.0.1:{listening.getsockname()[1]}")
    print("begun", flush=True)
    for k in range(300):
        time.sleep(0.01)
        if k % 30 == 29:  # an answer comes a while after the process goes on
            head.answered()
    print(repr(head.gone), flush=True)
    while not head.gone:
        time.sleep(0.05)
    print(head.gone, flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGSTOP)
        time.sleep(2.0)
        process.send_signal(signal.SIGCONT)
        assert process.stdout.readline() == "''\n"
        assert "cannot be reached any more" in process.stdout.readline()  # nor is one that is silent taken for there
