"""Measure training steps on a GPU and print a table.

    python -m benchmarks.gpu [--quick]

Shapes: B reviews, T tokens, H hidden units.
"""

import argparse
from functools import partial
from statistics import median
from timeit import repeat

import torch
from torch import Tensor

from benchmarks.steps import training
from benchmarks.timing import commit
from lit_imdb import SentimentRNN
from lit_imdb.model.graphs import Graphs

SIZES = ((128, 80, 64), (1024, 80, 64), (128, 400, 64), (128, 80, 512))  # B, T, H
QUICK = ((8, 5, 4), (16, 5, 4))
PLAIN = SentimentRNN.__call__
COLUMNS = {"reference": PLAIN, "cudnn": PLAIN, "cudnn in CUDA graphs": Graphs()}


def step_ms(column: str, b: int, t: int, h: int, device: str) -> float:
    """Milliseconds of a training step: the median of five times, after one that warms up."""
    net = SentimentRNN(hidden_dim=h, engine=column.split()[0]).to(device)
    ids = torch.randint(1, 10_000, (b, t)).int()
    ids[torch.arange(t) < torch.randint(t, (b, 1))] = 0  # (B, T), padding in front
    batch = ids.to(device), torch.randint(2, (b,), device=device).float()
    generator = torch.Generator(device).manual_seed(1)

    def logits(ids: Tensor) -> Tensor:
        return COLUMNS[column](net, ids, net.draw_masks(b, generator), at_every_word=False)

    take, steps = training(net, logits, lambda: batch), 3 if column == "reference" else 60
    return 1e3 * median(repeat(partial(take, steps), number=1, repeat=6)[1:]) / steps


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only check, on a CPU, that it runs")
    quick = parser.parse_args().quick
    device, card = ("cpu", "CPU") if quick else ("cuda", torch.cuda.get_device_name())
    cudnn = torch.backends.cudnn.version()
    print(f"{card}, torch {torch.__version__}, cuDNN {cudnn}, commit {commit()}\n")
    print(f"| ms of a step: reviews, words, hidden units | {' | '.join(COLUMNS)} |")
    print(f"| --- |{' --- |' * len(COLUMNS)}")
    for size in QUICK if quick else SIZES:
        line = " | ".join(f"{step_ms(column, *size, device):.2f}" for column in COLUMNS)
        print(f"| {', '.join(map(str, size))} | {line} |", flush=True)


if __name__ == "__main__":
    main()
