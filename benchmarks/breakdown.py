"""Where each millisecond of a training step goes: clocks around the parts of the fused step.

    python -m benchmarks.breakdown NAME REVIEWS.npz

The clocks are a dozen calls a step, so the sum is that of the bare loop. PyTorch's profiler would
add a microsecond to each of some 700 operations.
"""

import itertools
import sys
import time
from collections import defaultdict
from collections.abc import Callable

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from benchmarks.turns import Steps, serve
from benchmarks.workers import batches
from lit_imdb.memory import keep_freed_memory
from lit_imdb.model import threads
from lit_imdb.model.module import LitSentiment

_now = time.perf_counter


class Clocks:
    """Milliseconds by name; a part's time can be taken out of the whole that it lies in."""

    def __init__(self) -> None:
        self.ms: defaultdict[str, float] = defaultdict(float)

    def add(self, name: str, since: float) -> float:
        """Counts the time since then for `name`; returns the time now."""
        now = _now()
        self.ms[name] += 1e3 * (now - since)
        return now


def make_step(path: str) -> Steps:
    source, lit, generator = batches(path, 80), LitSentiment(engine="fused"), torch.Generator()
    net, optimizer = lit.net, lit.configure_optimizers()
    clocks = Clocks()
    shared = itertools.cycle(
        ("forward, all tokens", "backward, all tokens", "gradient of the embedding")
    )
    share = threads.share  # the three calls of a step, until all threads are done

    def timed_share(run: Callable[[int], None], pieces: int) -> None:
        since = _now()
        share(run, pieces)
        clocks.add(next(shared), since)

    threads.share = timed_share

    def step(number: int) -> None:
        since = _now()
        ids, labels = next(source)
        since = clocks.add("batch", since)
        masks = net.draw_masks(len(ids), generator.manual_seed(number))
        since = clocks.add("dropout masks drawn", since)
        optimizer.zero_grad()
        since = clocks.add("Adam", since)
        loss = binary_cross_entropy_with_logits(net(ids, masks), labels)
        since = clocks.add("forward", since)
        loss.backward()
        since = clocks.add("backward", since)
        optimizer.step()
        clocks.add("Adam", since)

    def run(steps: int) -> dict[str, float]:
        clocks.ms.clear()
        with threads.own_threads():
            for number in range(steps):
                step(number)
        return {name: ms / steps for name, ms in _parts(clocks.ms).items()}

    return run


def _parts(ms: dict[str, float]) -> dict[str, float]:
    """Parts that do not overlap, in the order of a step."""
    forward, backward = ms["forward, all tokens"], ms["backward, all tokens"]
    embedding = ms["gradient of the embedding"]
    return {
        "batch": ms["batch"],
        "dropout masks drawn": ms["dropout masks drawn"],
        "forward, all tokens": forward,
        "head, loss, arrays for the threads": ms["forward"] - forward,
        "backward, all tokens": backward,
        "gradient of the embedding": embedding,
        "backward of head and loss, sums over threads": ms["backward"] - backward - embedding,
        "Adam": ms["Adam"],
    }


if __name__ == "__main__":
    keep_freed_memory()
    torch.manual_seed(1)
    serve(lambda: make_step(sys.argv[2]))
