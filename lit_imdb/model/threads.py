"""The threads of the `fused` engine, beside torch's."""

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache

import torch

_local = threading.local()  # .count: torch's threads before `single_torch_thread`


@contextmanager
def single_torch_thread() -> Iterator[None]:
    """Limit torch to one thread: its idle workers would spin and compete with ours."""
    outside, before = getattr(_local, "count", None), torch.get_num_threads()
    _local.count = thread_count()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        _local.count = outside
        torch.set_num_threads(before)


def thread_count() -> int:
    """Return how many threads work: as many as torch has, or had before `single_torch_thread`."""
    return getattr(_local, "count", None) or torch.get_num_threads()


def run_parallel(task: Callable[[int], None], count: int) -> None:
    """Run task(0), ... task(count - 1), shared among the threads; return when all have ended."""
    threads = max(1, min(thread_count(), count))

    def worker(first: int) -> None:
        for number in range(first, count, threads):
            task(number)

    others = [_pool().submit(worker, first) for first in range(1, threads)]
    worker(0)
    for other in others:
        other.result()  # waits, and raises an error of its tasks


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="fused")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a child has none of the threads
