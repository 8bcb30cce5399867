"""Kill training with SIGKILL at random moments, resume it, and compare bit for bit.

    python -m benchmarks.crash --runs 20
    python -m benchmarks.crash --runs 2 --config configs/ngrams.yaml

Each resumed run must end with the same weights, optimizer state, metrics, curves and results as a
run that was never interrupted.
"""

import argparse
import json
import logging
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

ROOT = Path(__file__).parents[1]
RUN = Path("logs/imdb/version_0")
# Short, but with all phases.
ARGUMENTS = (
    *("--data.source", "package", "--trainer.max_epochs", "2"),
    *("--trainer.limit_train_batches", "60", "--trainer.limit_test_batches", "20"),
    *("--checkpoint_every_n_steps", "20", "--trainer.log_every_n_steps", "10"),
    *("--trainer.enable_progress_bar", "false"),
)
# Wall times, and a note that ModelCheckpoint does not restore.
IGNORED = {
    *("date", "seconds", "seconds_per_epoch", "seconds_total"),
    *("current_score", "train/reviews_per_second"),
}


def run(runs: int, seed: int, arguments: Sequence[str] = ARGUMENTS) -> list[str]:
    """Kill and resume `runs` runs; return the differences, one per line."""
    rng = random.Random(seed)
    found = []
    with tempfile.TemporaryDirectory() as temporary:
        whole = Path(temporary, "whole")
        process = _fit(whole, *arguments)
        _wait_for_checkpoint(whole, process)
        started = time.perf_counter()
        _wait(whole, process)
        seconds = time.perf_counter() - started
        for number in range(runs):
            # from the first step to the end of the report, each part of it as often
            after = (number + rng.random()) / runs * seconds
            folder = Path(temporary, f"run{number}")
            crash(folder, after, arguments)
            lines = differences(whole, folder)
            verdict = "; ".join(lines) or "bit-identical"
            print(f"{number + 1}/{runs} killed after {after:.1f} s: {verdict}", flush=True)
            found += [f"run {number + 1}: {line}" for line in lines]
    return found


def crash(folder: Path, after: float, arguments: Sequence[str]) -> None:
    """Train in `folder`, kill the process `after` seconds after its first checkpoint, resume it.

    The first process has one thread and the second two, which must not change a digit.
    """
    process = _fit(folder, *arguments)
    _wait_for_checkpoint(folder, process)
    try:
        process.wait(after)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        if not (folder / RUN / "results.json").exists():  # otherwise only the exit was left
            _wait(folder, _fit(folder, *arguments, "--ckpt_path", "last", threads=2))


def _fit(folder: Path, *arguments: str, threads: int = 1) -> "subprocess.Popen[bytes]":
    folder.mkdir(exist_ok=True)
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "PYTHONPATH": str(ROOT),
        "XDG_CACHE_HOME": str(folder.parent / "cache"),
    }
    command = [sys.executable, str(ROOT / "train.py"), "fit", *arguments]
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)


def _wait_for_checkpoint(folder: Path, process: "subprocess.Popen[bytes]") -> None:
    while process.poll() is None and not (folder / RUN / "checkpoints/last.ckpt").exists():
        time.sleep(0.01)


def _wait(folder: Path, process: "subprocess.Popen[bytes]") -> None:
    if process.wait() != 0:
        log = (folder / "log.txt").read_text()
        raise RuntimeError(f"training ended with {process.returncode}: {log}")


def differences(one: Path, other: Path) -> list[str]:
    """Name what differs between the runs in two folders."""
    a, b = (dict(_leaves("", _content(folder / RUN))) for folder in (one, other))
    return [
        f"{name}: {a.get(name, 'missing')!s:.60} against {b.get(name, 'missing')!s:.60}"
        for name in sorted(a.keys() | b.keys())
        if a.get(name) != b.get(name)
    ]


def _content(run_folder: Path) -> dict[str, Any]:
    everything = dict.fromkeys(("scalars", "tensors", "images", "histograms"), 0)
    events = EventAccumulator(str(run_folder), size_guidance=everything)
    events.Reload()
    content: dict[str, Any] = {
        # without wall times, and once: TensorBoard keeps the tensors of a killed process
        tag: list(
            dict.fromkeys(
                str(replace(event, wall_time=0)) for event in getattr(events, kind.title())(tag)
            )
        )
        for kind in everything
        for tag in events.Tags()[kind]
    }
    for name in ("last.ckpt", "best.ckpt"):
        content[name] = torch.load(run_folder / "checkpoints" / name, weights_only=True)
    content["results.json"] = json.loads((run_folder / "results.json").read_text())
    return content


def _leaves(name: str, content: Any) -> Iterator[tuple[str, Any]]:
    """Every plain value in nested content, with its path as name; tensors as bytes."""
    if isinstance(content, dict):
        for key, value in content.items():
            if key not in IGNORED:
                yield from _leaves(f"{name}.{key}", value)
    elif isinstance(content, list | tuple):
        for index, value in enumerate(content):
            yield from _leaves(f"{name}[{index}]", value)
    else:
        tensor = isinstance(content, torch.Tensor)
        yield name, content.numpy().tobytes() if tensor else repr(content)


def main() -> None:
    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it reports every purged point
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crash", description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--config", type=Path, default=ROOT / "configs/default.yaml")
    options = parser.parse_args()
    arguments = ("--config", str(options.config.resolve()), *ARGUMENTS)
    raise SystemExit(bool(run(options.runs, options.seed, arguments)))


if __name__ == "__main__":
    main()
