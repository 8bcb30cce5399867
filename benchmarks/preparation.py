"""The packaged reviews as input of what is measured, and the preparation of a file of them.

python -m benchmarks.preparation FILE
"""

import csv
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import torch
import torchtext.vocab  # noqa: F401 - now: importing does not grow with the corpus

from benchmarks.timing import memory_mb
from lit_imdb import ImdbDataModule
from lit_imdb.data.package import Package


def reviews(count: int) -> Iterator[tuple[str, int]]:
    """Texts and labels, over and over, each time beginning at another of their words."""
    known = [(text, label) for text, label, _ in Package().reviews()]
    random.Random(1).shuffle(known)  # a short corpus has both labels too
    for number in range(count):
        times, place = divmod(number, len(known))
        text, label = known[place]
        words = text.split()
        yield " ".join([*words[times:], *words[:times]]), label


def write_corpus(path: Path, count: int) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(chain([("text", "label")], reviews(count)))


def write_ids(path: Path, cache: Path) -> None:
    """Write the packaged reviews as ids, for peers that do not have this package."""
    data = ImdbDataModule("package", cache_dir=str(cache))
    data.prepare_data()
    data.setup("fit")
    arrays = {}
    for split, loader in (("train", data.train_dataloader()), ("test", data.test_dataloader())):
        ids, labels = map(torch.cat, zip(*loader, strict=True))
        arrays |= {f"{split}_ids": ids, f"{split}_labels": labels.float()}  # (N, T), (N,)
    np.savez(path, **arrays)


def main(file: str) -> None:
    with tempfile.TemporaryDirectory() as cache:
        data = ImdbDataModule(file, cache_dir=cache)
        started = time.perf_counter()
        data.prepare_data()
        seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "peak_mb": memory_mb("self", "VmHWM")}))


if __name__ == "__main__":
    main(sys.argv[1])
