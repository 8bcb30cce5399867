"""Measure training and prediction on a GPU and print two tables.

    python -m benchmarks.gpu [--device cpu --quick]

Shapes: B reviews, T tokens, V words, E embedding, H hidden units.
"""

import argparse
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.preparation import reviews
from benchmarks.steps import training
from benchmarks.timing import ROOT, commit, medians, run
from lit_imdb import SentimentRNN, load
from lit_imdb.model.graphs import Graphs

V, E = 10_000, 100
SIZES = ((128, 80, 64), (1024, 80, 64), (128, 400, 64), (128, 80, 512))  # B, T, H


def trainings(b: int, t: int, h: int, device: str) -> dict[str, Callable[[int], None]]:
    """By the name of their column, what takes so many steps and waits until they are done."""
    ids = torch.randint(1, V, (b, t)).int()
    ids[torch.arange(t) < torch.randint(t, (b, 1))] = 0  # (B, T), padding in front
    ids, labels = ids.to(device), torch.randint(2, (b,), device=device).float()
    generator = torch.Generator(device).manual_seed(1)

    def batch() -> tuple[Tensor, Tensor]:
        return ids, labels

    def ours(engine: Any, call: Callable[..., Tensor] = SentimentRNN.__call__) -> Any:
        net = SentimentRNN(V, E, h, engine=engine).to(device)

        def logits(ids: Tensor) -> Tensor:
            return call(net, ids, net.draw_masks(b, generator), at_every_word=False)

        return training(net, logits, batch)

    rnn = nn.RNN(E, h, num_layers=2, dropout=0.2, batch_first=True)
    plain = nn.ModuleList([nn.Embedding(V, E), rnn, nn.Linear(h, 1)]).to(device)
    embedding, rnn, head = plain

    def plain_logits(ids: Tensor) -> Tensor:
        states, _ = rnn(embedding(ids))  # (B, T, H), padding read
        return head(states[:, -1]).squeeze(-1)  # (B,)

    found = {
        "reference": ours("reference"),
        "cudnn": ours("cudnn"),
        "cudnn in CUDA graphs": ours("cudnn", Graphs()),
        "torch.nn.RNN": training(plain, plain_logits, batch),
    }
    with suppress(ImportError, RuntimeError):  # no JAX, or none for this device
        import jax

        from benchmarks import jax_peer

        arrays = (ids.cpu().numpy(), labels.cpu().numpy())
        there = jax.device_put(arrays, jax.devices(device)[0])
        found["JAX"] = jax_peer.training(h, lambda: there)
    return found


def print_steps(device: str, quick: bool) -> None:
    for number, (b, t, h) in enumerate([(8, 5, 4), (16, 5, 4)] if quick else SIZES):
        takes = trainings(b, t, h, device)
        steps = {name: 3 if name == "reference" else 60 for name in takes}
        found = medians({name: partial(take, steps[name]) for name, take in takes.items()})
        if number == 0:
            print(f"| ms of a step: reviews, words, hidden units | {' | '.join(found)} |")
            print(f"| --- |{' --- |' * len(found)}")
        columns = [f"{1e3 * found[name] / steps[name]:.2f}" for name in found]
        print(f"| {b}, {t}, {h} | {' | '.join(columns)} |", flush=True)


def print_whole(device: str, quick: bool) -> None:
    fit = [sys.executable, str(ROOT / "train.py"), "--data.source", "package"]
    fit += ["--accelerator", "gpu" if device == "cuda" else "cpu"]
    fit += ["--max_epochs", "1" if quick else "2", "--trainer.callbacks+=benchmarks.steps.Clock"]
    texts = [text for text, _ in reviews(200 if quick else 25_000)]
    with TemporaryDirectory() as folder:
        step = run(fit, Path(folder))["seconds"]
        best = Path(folder, "logs/imdb/version_0/checkpoints/best.ckpt")
        predict = {name: partial(load(best, name).predict, texts) for name in (device, "cpu")}
    print("\n| what | figure |\n| --- | --- |")
    print(f"| step in `fit` on {device} | {1e3 * step:.2f} ms |")
    for name, seconds in medians(predict).items():
        print(f"| `predict` on {name} | {len(texts) / seconds:,.0f} reviews/s |")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--quick", action="store_true", help="only check that everything runs")
    options = parser.parse_args()
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # JAX would take most of the memory
    os.environ["JAX_DEFAULT_MATMUL_PRECISION"] = "highest"  # as torch's: no TF32
    card = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
    cudnn = torch.backends.cudnn.version()
    print(f"{card}, torch {torch.__version__}, cuDNN {cudnn}, commit {commit()}\n")
    print_steps(**vars(options))
    print_whole(**vars(options))


if __name__ == "__main__":
    main()
