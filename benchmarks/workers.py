"""The workers that use torch: training steps, inference and the machine's own matrix product.

    python -m benchmarks.workers NAME REVIEWS.npz

Shapes: B reviews, T tokens, E embedding, H hidden units, N reviews of the training part.
"""

import sys
import time
from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback
from torch.nn.functional import binary_cross_entropy_with_logits

from benchmarks.turns import WARM_UP, Pipe, Steps, serve
from lit_imdb.main import main as train_py
from lit_imdb.memory import keep_freed_memory
from lit_imdb.model import unprofiled
from lit_imdb.model.folded import fold
from lit_imdb.model.module import LitSentiment
from lit_imdb.model.network import SentimentRNN
from lit_imdb.model.threads import own_threads

BATCH = 128
_INNER = 4  # times that fit and the bare loops change places in a turn
_TOUCHED = 2  # untimed steps after each change: the others have used the caches
_SGEMM = 2048
Batch = tuple[torch.Tensor, torch.Tensor]


def batches(path: str, max_length: int) -> Iterator[Batch]:
    """Shuffled batches, ids (B, T) int32 and labels (B,), again and again."""
    reviews = np.load(path)
    ids = torch.from_numpy(reviews["train_ids"][:, -max_length:].copy())  # (N, T)
    labels = torch.from_numpy(reviews["train_labels"])  # (N,)
    while True:
        for rows in torch.randperm(len(ids)).split(BATCH):
            if len(rows) == BATCH:
                yield ids[rows].int(), labels[rows].float()


def plain_training(engine: str, compiled: bool, path: str) -> Callable[..., Steps]:
    """The step as one writes it: the network, the loss, torch's Adam as it comes."""

    def make(max_length: int = 80, hidden_dim: int = 64) -> Steps:
        source = batches(path, max_length)
        net: Any = SentimentRNN(hidden_dim=hidden_dim, engine=engine)
        optimizer = torch.optim.Adam(net.parameters())
        net = torch.compile(net) if compiled else net

        def run(steps: int) -> None:
            for _ in range(steps):
                ids, labels = next(source)
                optimizer.zero_grad()
                binary_cross_entropy_with_logits(net(ids), labels).backward()
                optimizer.step()

        return run

    return make


def our_training(path: str, spared: bool = False) -> Callable[..., Steps]:
    """What `LitSentiment` does in a step, without Lightning.

    Args:
        spared: Whether torch's look for a profiler is left out of the optimizer's calls, as
            `LitSentiment` leaves it out.
    """

    def make(max_length: int = 80, hidden_dim: int = 64) -> Steps:
        source = batches(path, max_length)
        lit = LitSentiment(hidden_dim=hidden_dim, engine="fused")
        optimizer: Any = lit.configure_optimizers()
        generator = torch.Generator()
        zero_grad: Callable[[], None] = optimizer.zero_grad
        take: Callable[[], None] = optimizer.step
        if spared:
            zero_grad = partial(unprofiled.zero_grad, optimizer)
            take = partial(unprofiled.step, optimizer, None)

        def run(steps: int) -> None:
            with own_threads():
                for step in range(steps):
                    ids, labels = next(source)
                    masks = lit.net.draw_masks(len(ids), generator.manual_seed(step))
                    zero_grad()
                    binary_cross_entropy_with_logits(lit.net(ids, masks), labels).backward()
                    take()

        return run

    return make


class Gate(Callback):
    """Stands first among the callbacks of a real run and lets it go on when it is its turn.

    In a turn fit and the bare loops of the same process take steps by turns, each loop between two
    times of fit's: from process to process the same loop takes up to a tenth longer, and for a
    second after a pause each step is a little shorter than the one before.
    """

    def __init__(self, reviews: str) -> None:
        self._bare = {
            "bare": our_training(reviews)(),
            "spared": our_training(reviews, spared=True)(),
        }
        self._flow = self._turns()
        self._left_in_epoch = 0

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        self._left_in_epoch = trainer.num_training_batches - batch_idx - 1
        next(self._flow)

    def _turns(self) -> Iterator[None]:
        """Each `yield` lets one training step happen."""
        pipe = Pipe()
        pipe.answer("ready")
        for request in pipe.requests():
            steps = request["steps"]
            end = time.perf_counter() + WARM_UP
            while time.perf_counter() < end:
                yield
            seconds = yield from self._in_fit(steps)
            inner = []
            for number in range(_INNER):
                found = {"fit": (yield from self._in_fit(steps // 2))}
                for name in list(self._bare)[:: 1 if number % 2 else -1]:
                    self._bare[name](_TOUCHED)
                    started = time.perf_counter()
                    self._bare[name](steps // 2)
                    found[name] = (time.perf_counter() - started) / (steps // 2)
                found["again"] = yield from self._in_fit(steps // 2)
                inner.append(found)
            pipe.answer({"seconds": seconds, "inner": inner})
        raise SystemExit

    def _in_fit(self, steps: int) -> Generator[None, None, float]:
        """Seconds of a step within an epoch: validation is no part of it."""
        while self._left_in_epoch < steps + _TOUCHED:
            yield
        for _ in range(_TOUCHED):
            yield
        started = time.perf_counter()
        for _ in range(steps):
            yield
        return (time.perf_counter() - started) / steps


def fit(path: str) -> None:
    """`python train.py fit` as it is, but for the gate."""
    gate = ["--trainer.callbacks+=benchmarks.workers.Gate", f"--trainer.callbacks.reviews={path}"]
    train_py(["fit", "--data.source", "package", "--trainer.max_epochs", "1000000", *gate])


def inference(engine: str, path: str) -> Callable[..., Steps]:
    """Logits of B reviews, by the network in evaluation or by its folded form."""

    def make(batch: int = BATCH) -> Steps:
        net = SentimentRNN(engine="fused" if engine == "folded" else engine).eval()
        ids = torch.from_numpy(np.load(path)["train_ids"][:batch, -80:].copy()).int()  # (B, T)
        ids = ids.repeat(-(-batch // len(ids)), 1)[:batch]
        logits_of = fold(net) if engine == "folded" else net

        def run(steps: int) -> None:
            with torch.no_grad():
                for _ in range(steps):
                    logits_of(ids)

        return run

    return make


def sgemm(product: Callable[..., torch.Tensor]) -> Steps:
    """The product of two square matrices."""
    one, other = torch.rand(2, _SGEMM, _SGEMM)

    def run(steps: int) -> None:
        for _ in range(steps):
            product(one, other)

    return run


def main(name: str, path: str) -> None:
    keep_freed_memory()  # train.py does; so all have the same allocator
    torch.manual_seed(1)
    kind, _, engine = name.partition("-")
    if name == "fit":
        fit(path)
    elif name in SGEMM:
        serve(lambda: sgemm(SGEMM[name]))
    elif name == "fused":
        serve(our_training(path))
    elif kind == "infer":
        serve(inference(engine, path))
    else:
        serve(plain_training(TRAINING[name], name == "compile", path))


def onednn(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(one, other, None, "none", [], "")
    return product


TRAINING = {"eager": "reference", "rnn_tanh": "cudnn", "compile": "reference"}
SGEMM = {"sgemm": torch.mm, "sgemm_onednn": onednn}  # MKL's on x86, which AMD's AVX-512 gains by

if __name__ == "__main__":
    main(*sys.argv[1:])
