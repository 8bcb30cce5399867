"""Kill training with SIGKILL at random moments, resume it, and compare bit for bit.

    python -m benchmarks.crash --runs 20
    python -m benchmarks.crash --runs 2 --config configs/ngrams.yaml

Each resumed run must end with the same weights, optimizer state, metrics, curves and results as a
run that was never interrupted.
"""

import argparse
import difflib
import json
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from subprocess import Popen, TimeoutExpired
from typing import Any

import torch
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from benchmarks.timing import ROOT, finish, start

RUN = Path("logs/imdb/version_0")
SHORT = (  # but with all phases
    *("--data.source", "package", "--trainer.max_epochs", "2"),
    *("--trainer.limit_train_batches", "60", "--trainer.limit_test_batches", "20"),
    *("--checkpoint_every_n_steps", "20", "--trainer.log_every_n_steps", "10"),
    *("--trainer.enable_progress_bar", "false"),
)
# Wall times, a note that ModelCheckpoint does not restore, and the list of a user's callbacks:
# where there are none, only a resumed run writes it.
IGNORED = (
    *('"date"', '"seconds', '"train/reviews_per_second', '"current_score"'),
    *('"trainer.callbacks": []', '"callbacks": []'),
)


def run(runs: int, arguments: Sequence[str], seed: int = 0) -> list[str]:
    """Kill and resume `runs` runs; return the differences, one per line.

    A run has one thread until it is killed and two afterwards, which must not change a digit.
    """
    rng, found = random.Random(seed), []
    with tempfile.TemporaryDirectory() as temporary:
        whole = Path(temporary, "whole")
        process = fit(whole, *arguments)
        started = time.perf_counter()
        finish(process)
        seconds = time.perf_counter() - started
        for number in range(1, runs + 1):
            # from the first checkpoint to the end of the report, each part of it as often
            after = (number - rng.random()) / runs * seconds
            folder = Path(temporary, f"run{number}")
            process = fit(folder, *arguments)
            with suppress(TimeoutExpired):
                process.wait(after)
            process.kill()
            process.communicate()
            if not (folder / RUN / "results.json").exists():  # otherwise only the exit was left
                finish(fit(folder, *arguments, "--ckpt_path", "last", threads=2))
            lines = differences(whole, folder)
            verdict = "; ".join(lines) or "bit-identical"
            print(f"{number}/{runs} killed after {after:.1f} s: {verdict}", flush=True)
            found += lines
    return found


def fit(folder: Path, *arguments: str, threads: int = 1) -> Popen[str]:
    """Start training in `folder`; return when it has a checkpoint."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, str(ROOT / "train.py"), "fit", *arguments]
    cache = str(folder.parent / "cache")
    process = start(command, folder, OMP_NUM_THREADS=str(threads), XDG_CACHE_HOME=cache)
    while process.poll() is None and not (folder / RUN / "checkpoints/last.ckpt").exists():
        time.sleep(0.01)
    return process


def differences(one: Path, other: Path) -> list[str]:
    """Lines about what differs between the runs in two folders."""
    lines = difflib.unified_diff(content(one / RUN), content(other / RUN), n=0, lineterm="")
    return [f"{line:.80}" for line in lines if line[0] in "+-"][2:]  # without the two file names


def content(run: Path) -> list[str]:
    """What a run has left, one value per line: curves and pictures, checkpoints, results."""
    curves = {}
    for file in sorted(run.glob("events.*")):  # a resumed run writes some steps again
        for event in EventFileLoader(str(file)).Load():
            for value in event.summary.value:
                curves[f"{value.tag} at {event.step}"] = str(value.tensor)
    files = [run / "checkpoints" / name for name in ("last.ckpt", "best.ckpt")]
    checkpoints = [torch.load(file, weights_only=True) for file in files]
    results = json.loads((run / "results.json").read_text())
    text = json.dumps([curves, checkpoints, results], indent=0, default=exact, sort_keys=True)
    return [line for line in text.splitlines() if not line.startswith(IGNORED)]


def exact(value: Any) -> str:
    """What JSON has no form for, as text."""
    return value.numpy().tobytes().hex() if isinstance(value, torch.Tensor) else repr(value)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crash", description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--config", type=Path, default=ROOT / "configs/default.yaml")
    options = parser.parse_args()
    arguments = ("--config", str(options.config.resolve()), *SHORT)
    raise SystemExit(bool(run(options.runs, arguments)))


if __name__ == "__main__":
    main()
