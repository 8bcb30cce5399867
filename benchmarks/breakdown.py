"""Where each millisecond of a training step goes: clocks around the parts of the fused step.

    python -m benchmarks.breakdown NAME REVIEWS.npz

The clocks are a dozen calls a step, so the sum is that of the bare loop. PyTorch's profiler would
add a microsecond to each of some 700 operations.
"""

import sys
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from benchmarks.turns import Steps, serve
from benchmarks.workers import batches
from lit_imdb.memory import keep_freed_memory
from lit_imdb.model import recurrence
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

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            since = _now()
            result = function(*args, **kwargs)
            self.add(name, since)
            return result

        return timed


def make_step(path: str) -> Steps:
    source, lit, generator = batches(path, 80), LitSentiment(engine="fused"), torch.Generator()
    net, optimizer = lit.net, lit.configure_optimizers()
    clocks, mark = Clocks(), 0.0
    recurrence.walk = clocks.around("walk through time, forward", recurrence.walk)
    recurrence.project = clocks.around("input projections", recurrence.project)
    recurrence._through_time = clocks.around(
        "walk through time, backward", recurrence._through_time
    )

    def arrived(gradient: torch.Tensor) -> None:
        clocks.add("backward of the network", mark)

    def step(number: int) -> None:
        nonlocal mark
        since = _now()
        ids, labels = next(source)
        since = clocks.add("batch", since)
        masks = net.draw_masks(len(ids), generator.manual_seed(number))
        since = clocks.add("dropout masks drawn", since)
        optimizer.zero_grad()
        since = clocks.add("zero_grad", since)
        embedded = net.look_up(ids)  # as in SentimentRNN.forward
        since = clocks.add("embedding", since)
        embedded.register_hook(arrived)
        loss = binary_cross_entropy_with_logits(net.logits_of(embedded, masks), labels)
        mark = clocks.add("forward of the network", since)
        loss.backward()
        since = clocks.add("backward", mark)
        optimizer.step()
        clocks.add("Adam", since)

    def run(steps: int) -> dict[str, float]:
        clocks.ms.clear()
        for number in range(steps):
            step(number)
        return {name: ms / steps for name, ms in _parts(clocks.ms).items()}

    return run


def _parts(ms: dict[str, float]) -> dict[str, float]:
    """Parts that do not overlap, in the order of a step."""
    forward = ms["walk through time, forward"]
    projections = ms["input projections"]
    backward = ms["walk through time, backward"]
    return {
        "batch": ms["batch"],
        "dropout masks drawn": ms["dropout masks drawn"],
        "embedding looked up": ms["embedding"],
        "input projections": projections,
        "walk through time, forward": forward,
        "masks, head and loss": ms["forward of the network"] - forward - projections,
        "walk through time, backward": backward,
        "gradients of weights and inputs": ms["backward of the network"] - backward,
        "gradient of the embedding": ms["backward"] - ms["backward of the network"],
        "Adam": ms["Adam"] + ms["zero_grad"],
    }


if __name__ == "__main__":
    keep_freed_memory()
    torch.manual_seed(1)
    serve(lambda: make_step(sys.argv[2]))
