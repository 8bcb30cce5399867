"""SIGTERM and Ctrl-C: stop at once outside training, and at the end of the step within it."""

import signal
import threading
from types import FrameType

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """Ends the program with status 128 + `signum`, as shells expect.

    Not an `Exception`, so that nothing on its way takes it for a fault.
    """

    def __init__(self, signum: int, checkpoint: str = "last") -> None:
        super().__init__(signum)
        self.signum = signum
        self.checkpoint = checkpoint  # what --ckpt_path takes to go on
        self.name = "Ctrl-C" if signum == signal.SIGINT else signal.Signals(signum).name


class StopFlag:
    """Remembers the first signal; a second one stops at once."""

    def __init__(self) -> None:
        self.signum: int | None = None

    def listen(self) -> None:
        """Takes over both signals from whoever had them."""
        _handle(self._remember)

    def _remember(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is not None:
            raise Interrupted(signum)
        self.signum = signum


def stop_at_once() -> None:
    """Has both signals raise `Interrupted` wherever the program is."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise Interrupted(signum)

    _handle(stop)


def _handle(handler: object) -> None:
    if threading.current_thread() is threading.main_thread():  # Python allows it only there
        for signum in _STOP_SIGNALS:
            signal.signal(signum, handler)  # type: ignore[arg-type]
