"""The threads of the `fused` engine, beside torch's."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache

import torch

_own: int | None = None  # how many, while torch has one


@contextmanager
def own_threads() -> Iterator[None]:
    """Torch has one thread meanwhile: its others would spin on for milliseconds after each call."""
    global _own
    torchs, outer = torch.get_num_threads(), _own
    _own = outer or torchs
    torch.set_num_threads(1)
    try:
        yield
    finally:
        _own = outer
        torch.set_num_threads(torchs)


def number() -> int:
    """How many threads work: as many as torch has been given."""
    return _own or torch.get_num_threads()


def share(run: Callable[[int], None], pieces: int) -> None:
    """Runs 0, 1, ... `pieces` - 1 in several threads, and returns when all are done."""
    threads = max(1, min(number(), pieces))

    def some(thread: int) -> None:
        for piece in range(thread, pieces, threads):
            run(piece)

    others = [_pool().submit(some, thread) for thread in range(1, threads)]
    some(0)
    for other in others:
        other.result()


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="fused")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a child has none of the threads
