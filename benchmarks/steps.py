"""Training steps of 128 reviews: inside of `python train.py fit`, or alone.

python -m benchmarks.steps ENGINE
"""

import json
import sys
import time
from collections.abc import Iterator
from typing import Any

from pytorch_lightning import Callback
from torch.nn.functional import binary_cross_entropy_with_logits

from benchmarks.timing import STEPS, WARM_UP, print_step
from lit_imdb import ImdbDataModule, LitSentiment


class Clock(Callback):
    """Times steps of `fit` in the middle of each epoch, and prints the seconds of one."""

    def __init__(self) -> None:
        self._seconds = 0.0

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, index: int) -> None:
        if index == WARM_UP:
            self._seconds -= time.perf_counter()
        elif index == WARM_UP + STEPS:
            self._seconds += time.perf_counter()

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        print(json.dumps({"step": self._seconds / (STEPS * trainer.current_epoch)}))


def main(engine: str) -> None:
    data, lit = ImdbDataModule("package"), LitSentiment(engine=engine)
    data.prepare_data()
    data.setup("fit")
    optimizer: Any = lit.configure_optimizers()

    def batches() -> Iterator[Any]:
        while True:
            yield from data.train_dataloader()

    batch = batches()

    def run(steps: int) -> None:
        for _ in range(steps):
            ids, labels = next(batch)  # (B, T), (B,)

            def closure() -> Any:
                optimizer.zero_grad()
                loss = binary_cross_entropy_with_logits(lit.net(ids), labels)  # noqa: B023
                loss.backward()
                return loss

            lit.optimizer_step(0, 0, optimizer, closure)

    print_step(run)


if __name__ == "__main__":
    main(sys.argv[1])
