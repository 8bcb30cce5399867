"""SIGTERM and Ctrl-C: stop at once. During training `training.saving` takes over."""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """Ends the program with status 128 + `signum`, as shells expect.

    Derives from BaseException so that `except Exception` does not catch it.
    """

    checkpoint: str | None = None  # what --ckpt_path takes to resume, once training has written it

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum
        self.name = "Ctrl-C" if signum == signal.SIGINT else signal.Signals(signum).name


def stop_on_signals(processes: int = 1) -> None:
    """Raise `Interrupted` on both signals, wherever the program is.

    One of several processes is ended by the system instead: it may wait for others inside torch for
    half an hour, and Python runs its handlers only between two of its own instructions.
    """
    handle_stop_signals(_stop if processes == 1 else signal.SIG_DFL)


def handle_stop_signals(handler: Callable[[int, FrameType | None], Any] | signal.Handlers) -> None:
    """Install a handler of both signals, in place of any other."""
    if threading.current_thread() is threading.main_thread():  # Python allows it only there
        for signum in _STOP_SIGNALS:
            signal.signal(signum, handler)


def _stop(signum: int, frame: FrameType | None) -> None:
    raise Interrupted(signum)
