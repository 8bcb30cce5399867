"""Training steps of 128 reviews: inside `python train.py fit`, bare, and those of the peers."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback
from torch.nn.functional import binary_cross_entropy_with_logits

from benchmarks.commands import TRAIN_PY
from benchmarks.turns import STEPS, WARM_UP, Worker, turns
from lit_imdb import LitSentiment

_LINE = 20  # steps between two log lines: as many at a time, so that each piece has one
ENGINES = {"fused": "fused", "rnn_tanh": "cudnn", "reference": "reference"}


class Gate(Callback):
    """Holds a run before each training step until its turn, and times it there.

    In a turn, steps of `fit` alternate with bare ones in the same process, because the same loop
    can take some percent longer in another process.
    """

    def __init__(self) -> None:
        self._flow = self._turns()
        self._left = 0  # steps in this epoch

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._bare = bare_steps(
            LitSentiment(engine=pl_module.hparams["engine"]), trainer.datamodule
        )

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, index: int) -> None:
        self._left = trainer.num_training_batches - index
        next(self._flow)

    def _turns(self) -> Iterator[None]:
        """Take turns; each `yield` lets one step of `fit` happen."""
        for answer in turns():
            end = time.perf_counter() + WARM_UP
            while time.perf_counter() < end:
                yield
            seconds = {"fit": 0.0, "bare": 0.0}
            for _ in range(STEPS // _LINE):
                while self._left < _LINE + 2:  # validation between epochs is not timed
                    yield
                yield
                started = time.perf_counter()
                for _ in range(_LINE):
                    yield
                seconds["fit"] += time.perf_counter() - started
                self._bare(1)
                started = time.perf_counter()
                self._bare(_LINE)
                seconds["bare"] += time.perf_counter() - started
            answer({kind: total / STEPS for kind, total in seconds.items()})
        raise SystemExit


def bare_steps(lit: LitSentiment, data: Any) -> Callable[[int], None]:
    """A function that takes so many training steps without a Trainer."""
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

    return run


def measure(folder: Path, peers: dict[str, list[str]], quick: bool) -> dict[str, Any]:
    """Seconds per step of every engine and peer: `{name: [{kind: seconds}, ...]}`."""
    fit = [*TRAIN_PY, "fit", "--data.source", "package"]
    fit += ["--trainer.max_epochs", "1000000", "--trainer.callbacks+=benchmarks.steps.Gate"]
    engines = {name: [*fit, "--model.engine", engine] for name, engine in ENGINES.items()}
    commands = {"fused": engines["fused"]} if quick else {**engines, **peers}
    with ExitStack() as stack:
        workers = {}
        for name, command in commands.items():
            workers[name] = Worker(command, folder, folder / f"{name}.log")
            stack.callback(workers[name].end)
        answers: dict[str, Any] = {name: [] for name in workers}
        for _ in range(1 if quick else 15):
            for name, worker in workers.items():
                answers[name].append(worker.turn())
    return answers
