"""Has a second process prepare what this one will need next.

Reading and tokenising is Python and takes as long as the network. A thread would not do: the
network's 300 small operations a batch would each wait for the interpreter's lock.
"""

import multiprocessing
import signal
import sys
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import TypeVar

T = TypeVar("T")


def in_background(produce: Callable[[], Iterator[T]]) -> Iterator[T]:
    """Yields what `produce()` yields, computed one item ahead by a second process.

    Errors arrive here. Only Linux forks safely: elsewhere `produce` runs in this process.
    """
    if sys.platform != "linux":
        yield from produce()
        return
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(produce, sender, receiver), daemon=True)
    process.start()
    sender.close()
    try:
        while True:
            kind, value = receiver.recv()
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value
    except EOFError:
        raise RuntimeError("the process that reads the reviews was killed") from None
    finally:
        process.kill()
        process.join()
        receiver.close()


def _send(produce: Callable[[], Iterator[T]], sender: Connection, receiver: Connection) -> None:
    receiver.close()  # or this process would never learn that the other is gone
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the other's to handle
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        for item in produce():
            sender.send(("item", item))
        sender.send(("end", None))
    except BrokenPipeError:
        return
    except Exception as error:
        sender.send(("error", error))
