"""Measure the table of docs/performance.md and print it.

    python -m benchmarks --keras PYTHON --jax PYTHON

Each command is a process of its own, and they take turns. Standard error gets every single number.
"""

import argparse
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from benchmarks.preparation import write_corpus, write_ids
from benchmarks.timing import ROOT, commit, run

# Keeps freed memory, as lit_imdb/main.py does.
KEEPING = ["env", "MALLOC_MMAP_THRESHOLD_=33554432", "MALLOC_TRIM_THRESHOLD_=2147483647"]
UNPREPARED = ["sh", "-c", 'XDG_CACHE_HOME=$(mktemp -d -p .) "$@"', "sh"]  # an empty cache
ENGINES = {"fused": "fused", "torch.rnn_tanh": "cudnn", "reference": "reference"}
STEP, WHOLE = "{ms:.2f} ms", "{seconds:.1f} s"
EACH, RATE = "{us:.0f} us each, {peak_mb:,.0f} MB", "{rate:,.0f} reviews/s"


class Row(NamedTuple):
    """A line of the table; rows of the same unit are compared with the first of them."""

    name: str
    unit: str
    command: list[Any]
    reviews: int = 1  # in the file that the command reads, if it does


def rows_of(keras: str | None, jax: str | None, quick: bool) -> list[Row]:
    train = [sys.executable, str(ROOT / "train.py")]
    fit = [*train, "fit", "--data.source", "package"]
    clock = ["--max_epochs", "1" if quick else "3"]
    clock += ["--trainer.callbacks+=benchmarks.steps.Clock", "--model.engine"]
    alone = [*KEEPING, sys.executable, "-m", "benchmarks.steps"]
    tutorial = [keras, "-m", "benchmarks.keras_peer", "ids.npz"]
    whole = [*fit, "--config", str(ROOT / "configs/smoke.yaml")] if quick else fit
    prepare = [sys.executable, "-m", "benchmarks.preparation"]
    predict = [*train, "predict", "--output", "answers.csv"]  # by the newest run
    few, many, labelled = (500, 1000, 1500) if quick else (25_000, 1_000_000, 250_000)
    labelling = f"`predict` with {labelled:,} reviews, start included"
    rows = [
        Row(f"training step {where}, `{name}`", STEP, [*command, engine])
        for where, command in (("in `fit`", [*fit, *clock]), ("alone", alone))
        for name, engine in ENGINES.items()
    ]
    rows += [
        Row("training step alone, Keras (the tutorial's)", STEP, tutorial),
        Row("training step alone, JAX", STEP, [jax, "-m", "benchmarks.jax_peer", "ids.npz"]),
        Row("`python train.py`", WHOLE, whole),
        Row("`python train.py`, nothing prepared", WHOLE, [*UNPREPARED, *whole]),
        Row("the tutorial's script, ids prepared", WHOLE, [*tutorial, "--whole"]),
        Row(f"preparing {few:,} reviews", EACH, [*prepare, f"{few}.csv"], few),
        Row(f"preparing {many:,} reviews", EACH, [*prepare, f"{many}.csv"], many),
        Row(labelling, RATE, [*predict, f"{labelled}.csv"], labelled),
    ]
    return [row for row in rows if row.command[0]]  # without the peers that are not there


def print_table(rows: list[Row], found: list[list[dict[str, float]]]) -> None:
    print("| what | median | ratio |\n| --- | --- | --- |")
    first: dict[str, float] = {}
    for row, rounds in zip(rows, found, strict=True):
        seconds = median(figures["seconds"] for figures in rounds) / row.reviews
        peak_mb = median(figures.get("peak_mb", 0) for figures in rounds)
        units = {"ms": 1e3 * seconds, "us": 1e6 * seconds, "rate": 1 / seconds}
        figure = row.unit.format(seconds=seconds, peak_mb=peak_mb, **units)
        ratio = seconds / first.setdefault(row.unit, seconds)
        print(f"| {row.name} | {figure} | {ratio:.2f} |")
    packages = [f"{name} {version(name)}" for name in ("torch", "pytorch-lightning")]
    print(f"\nPython {platform.python_version()}, {', '.join(packages)}, commit {commit()}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    # absolute, since the commands run in another folder
    python: dict[str, Any] = {"type": os.path.abspath, "metavar": "PYTHON"}
    parser.add_argument("--keras", help="an interpreter that has TensorFlow", **python)
    parser.add_argument("--jax", help="an interpreter that has JAX", **python)
    parser.add_argument("--quick", action="store_true", help="only check that everything runs")
    options = parser.parse_args()
    rows = rows_of(**vars(options))
    found: list[list[dict[str, float]]] = [[] for _ in rows]
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_ids(folder / "ids.npz", folder / "cache/lit-imdb")
        for row in rows:
            if row.reviews > 1:
                write_corpus(folder / f"{row.reviews}.csv", row.reviews)
        for _ in range(1 if options.quick else 5):
            for row, rounds in zip(rows, found, strict=True):
                rounds.append(run(row.command, folder))
                print(row.name, rounds[-1], file=sys.stderr, flush=True)
    print_table(rows, found)


if __name__ == "__main__":
    main()
