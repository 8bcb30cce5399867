"""The threads of the `fused` engine, beside torch's."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache

import torch

_lock = threading.Lock()
_inside = 0  # how many are in `own_threads`
_own = 1  # threads, while torch has one


class own_threads:  # noqa: N801 - as a function; contextlib's manager takes 10 us more of a step
    """Torch has one thread meanwhile: its others would spin on for milliseconds after each call.

    For the whole process: train one network at a time.
    """

    def __enter__(self) -> None:
        global _inside, _own
        with _lock:
            if not _inside:
                _own = torch.get_num_threads()
            _inside += 1
        torch.set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        global _inside
        with _lock:
            _inside -= 1
            if not _inside:
                torch.set_num_threads(_own)


def number() -> int:
    """How many threads work: as many as torch has, or had before `own_threads`."""
    return _own if _inside else torch.get_num_threads()


def share(run: Callable[[int], None], pieces: int) -> None:
    """Runs 0, 1, ... `pieces` - 1 in several threads, and ends when all have ended."""
    threads = max(1, min(number(), pieces))

    def some(thread: int) -> None:
        for piece in range(thread, pieces, threads):
            run(piece)

    others = []
    try:
        for thread in range(1, threads):
            try:
                others.append(_pool().submit(some, thread))
            except RuntimeError:  # the interpreter is ending and takes no more work
                some(thread)
        some(0)
    finally:
        wait(others)
    for other in others:
        other.result()


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="fused")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a child has none of the threads
