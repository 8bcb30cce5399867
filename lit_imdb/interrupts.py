"""SIGTERM and Ctrl-C: stop at once. During training `training.saving` takes over."""

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import FrameType

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_PATIENCE = 5.0  # seconds
_handler_ran = threading.Event()


class Interrupted(BaseException):
    """Ends the program with status 128 + `signum`, as shells expect.

    Derives from BaseException so that `except Exception` does not catch it.
    """

    def __init__(self, signum: int, checkpoint: str = "last") -> None:
        super().__init__(signum)
        self.signum = signum
        self.checkpoint = checkpoint  # what --ckpt_path takes to resume
        self.name = "Ctrl-C" if signum == signal.SIGINT else signal.Signals(signum).name


def stop_at_once() -> None:
    """Raise `Interrupted` on both signals, wherever the program is."""
    handle_stop_signals(_stop)


def handle_stop_signals(handler: Callable[[int, FrameType | None], None]) -> None:
    """Install a handler of both signals, in place of any other."""
    if threading.current_thread() is threading.main_thread():  # Python allows it only there
        _start_watchdog()
        for signum in _STOP_SIGNALS:
            signal.signal(signum, handler)


def _stop(signum: int, frame: FrameType | None) -> None:
    _handler_ran.set()
    raise Interrupted(signum)


@cache
def _start_watchdog() -> None:
    """Start a thread that ends the process when Python cannot call `_stop`.

    Python calls handlers between two of its own instructions. A process that waits for other nodes
    is inside torch and may not come back for half an hour. The byte for `set_wakeup_fd` is written
    in any case.
    """
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    signal.set_wakeup_fd(sender.detach(), warn_on_full_buffer=False)
    # a forked process shares the socket: its signals would end this one
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))
    threading.Thread(target=_watch, args=(receiver,), daemon=True).start()


def _watch(receiver: socket.socket) -> None:
    while True:
        signum = receiver.recv(1)[0]
        if signum not in _STOP_SIGNALS or signal.getsignal(signum) is not _stop:
            continue
        if not _handler_ran.wait(_PATIENCE):
            for children in Path("/proc/self/task").glob("*/children"):  # this node's processes
                for child in children.read_text().split():
                    os.kill(int(child), signum)
            print(f"stopped by {Interrupted(signum).name}", file=sys.stderr, flush=True)
            os._exit(128 + signum)
        _handler_ran.clear()
        with contextlib.suppress(BlockingIOError):  # more signals, answered by the same call
            receiver.recv(4096, socket.MSG_DONTWAIT)
