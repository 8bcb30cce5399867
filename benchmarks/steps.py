"""Training steps of 128 reviews: inside of `python train.py fit`, or alone.

python -m benchmarks.steps ENGINE
"""

import json
import sys
import time
from collections.abc import Callable
from itertools import chain, repeat
from typing import Any

import torch
from pytorch_lightning import Callback
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from benchmarks.timing import STEPS, WARM_UP, print_step
from lit_imdb import ImdbDataModule, SentimentRNN
from lit_imdb.model.engines import ENGINES, step_threads


class Clock(Callback):
    """Times steps of `fit` in the middle of each epoch, and prints the seconds of one."""

    def __init__(self) -> None:
        self._seconds = 0.0

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, index: int) -> None:
        if index not in (WARM_UP, WARM_UP + STEPS):
            return
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize()
        self._seconds += time.perf_counter() * (1 if index > WARM_UP else -1)

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        print(json.dumps({"seconds": self._seconds / (STEPS * trainer.current_epoch)}))


def training(
    net: nn.Module, logits: Callable[[Tensor], Tensor], batch: Callable[[], Any]
) -> Callable[[int], None]:
    """Return what takes so many steps, each on a batch of ids (B, T) and labels (B,)."""
    optimizer = torch.optim.Adam(net.parameters(), eps=1e-7, fused=True)

    def take(steps: int) -> None:
        for _ in range(steps):
            ids, labels = batch()
            optimizer.zero_grad(set_to_none=True)
            binary_cross_entropy_with_logits(logits(ids), labels).backward()
            optimizer.step()
        if labels.is_cuda:
            torch.cuda.synchronize()

    return take


def main(engine: Any) -> None:
    data, net = ImdbDataModule("package"), SentimentRNN(engine=engine)
    data.prepare_data()
    data.setup("fit")
    batches = chain.from_iterable(repeat(data.train_dataloader()))
    with step_threads(ENGINES[engine]):
        print_step(training(net, net, lambda: next(batches)))


if __name__ == "__main__":
    main(sys.argv[1])
