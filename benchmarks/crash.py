"""Kills training with SIGKILL at chosen and at random moments, resumes, compares bit for bit.

    python -m benchmarks.crash --runs 20

The first six runs die in a named phase, the others at a random time. Each is resumed as its user
would, and must end with the same weights, optimizer state, metrics, curves and results as a run
that was never interrupted.
"""

import argparse
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

ROOT = Path(__file__).parents[1]
PHASES = ("preparation", "training", "validation", "checkpoint", "test", "results")
# Short, but with all phases.
ARGUMENTS = (
    *("--data.source", "package", "--trainer.max_epochs", "2"),
    *("--trainer.limit_train_batches", "60", "--trainer.limit_test_batches", "20"),
    *("--checkpoint_every_n_steps", "20", "--trainer.log_every_n_steps", "10"),
    *("--trainer.enable_progress_bar", "false"),
)


def crash(
    folder: Path, phase: str, rng: random.Random, seconds: float, arguments: tuple[str, ...]
) -> str:
    """Starts training in `folder`, kills it in `phase`, resumes it; says when it died.

    The first has one thread, the second two: that changes no digit. At random it dies within as
    many seconds as the whole run takes.
    """
    if phase == "random":
        after = rng.uniform(0.5, seconds)
        process = _start(folder, [str(ROOT / "train.py"), "fit", *arguments])
        died = f"after {after:.1f} s"
        try:
            process.wait(after)
            died = "not at all, it was done"
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
    else:
        call = rng.randrange(1, 10)
        child = ["-m", "benchmarks.crash", "--die-in", phase, "--die-at", str(call)]
        process = _start(folder, [*child, "--", "fit", *arguments])
        if process.wait() != -signal.SIGKILL:
            raise RuntimeError(f"to die in {phase}, but ended with {process.returncode}")
        died = f"in {phase}, call {call}"
    last = ["--ckpt_path", "last", *arguments]
    resumed = _start(folder, [str(ROOT / "train.py"), "fit", *last], threads=2)
    if resumed.wait() == 2:  # nothing was trained yet, and the message says: start
        shutil.rmtree(folder / "logs", ignore_errors=True)  # paths in checkpoints have its name
        resumed = _start(folder, [str(ROOT / "train.py"), "fit", *arguments])
    if resumed.wait() != 0:
        raise RuntimeError(f"resuming failed with {resumed.returncode}: see {folder}/log.txt")
    return died


def _start(folder: Path, command: list[str], threads: int = 1) -> "subprocess.Popen[bytes]":
    folder.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "PYTHONPATH": str(ROOT),
        "XDG_CACHE_HOME": str(folder / "cache"),
    }
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, *command], cwd=folder, env=environment, stdout=log, stderr=log
        )


def differences(one: Path, other: Path) -> list[str]:
    """Where the newest runs below two folders differ; wall times apart."""
    runs = [sorted((folder / "logs/imdb").glob("version_*"))[-1] for folder in (one, other)]
    contents = []
    for run in runs:
        content: dict[str, Any] = {
            name: torch.load(run / "checkpoints" / name, weights_only=True)
            for name in ("last.ckpt", "best.ckpt")
        }
        content["results"] = json.loads((run / "results.json").read_text())
        content["results"]["config"]["fit"].pop("ckpt_path", None)  # only a resumed run has one
        content["events"] = _events(run)
        contents.append(content)
    return _compare(contents[0], contents[1], "")


def _events(run: Path) -> dict[str, Any]:
    everything = dict.fromkeys(("scalars", "tensors", "images", "histograms"), 0)
    events = EventAccumulator(str(run), size_guidance=everything)
    events.Reload()
    found: dict[str, Any] = {}
    for tag in events.Tags()["scalars"]:
        found[tag] = [(event.step, event.value) for event in events.Scalars(tag)]
    for tag in events.Tags()["tensors"]:
        logged = [
            (event.step, event.tensor_proto.SerializeToString(deterministic=True))
            for event in events.Tensors(tag)
        ]
        found[tag] = list(dict.fromkeys(logged))  # TensorBoard purges no tensors of a cut off run
    for tag in events.Tags()["images"]:
        found[tag] = [(event.step, event.encoded_image_string) for event in events.Images(tag)]
    for tag in events.Tags()["histograms"]:
        found[tag] = [(event.step, event.histogram_value) for event in events.Histograms(tag)]
    return found


def _compare(one: Any, other: Any, where: str) -> list[str]:
    name = where.rsplit(".", 1)[-1]
    if "second" in name or name == "current_score":
        return []  # wall times, and a note of ModelCheckpoint's that it does not bring back
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return [] if torch.equal(one, other) else [where]
    if isinstance(one, dict) and isinstance(other, dict):
        if one.keys() != other.keys():
            return [f"{where}: only one has {sorted(map(str, one.keys() ^ other.keys()))}"]
        return [line for key in one for line in _compare(one[key], other[key], f"{where}.{key}")]
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        if len(one) != len(other):
            return [f"{where}: {len(one)} against {len(other)} entries"]
        pairs = enumerate(zip(one, other, strict=True))
        return [line for i, (a, b) in pairs for line in _compare(a, b, f"{where}[{i}]")]
    return [] if one == other else [f"{where}: {str(one)[:60]} against {str(other)[:60]}"]


def _die_in(phase: str, call: int, arguments: list[str]) -> None:
    """Runs the command line in this process, which kills itself at the chosen call."""
    from lit_imdb.data.text import TextEncoder
    from lit_imdb.main import main
    from lit_imdb.model.module import LitSentiment
    from lit_imdb.training import results

    count = 0

    def deadly(function: Any, last_words: Any = None) -> Any:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if count == call:
                if last_words is not None:
                    last_words(*args)
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return wrapped

    def half_a_checkpoint(content: Any, file: Any) -> None:
        file.write(b"half a checkpoint" * 1000)
        file.flush()

    def half_the_results(run: Path, *_: Any) -> None:
        (run / "results.json.tmp").write_text('{"sour')

    match phase:
        case "preparation":
            TextEncoder.encode = deadly(TextEncoder.encode)  # type: ignore[method-assign]
        case "training":
            LitSentiment.training_step = deadly(LitSentiment.training_step)  # type: ignore
        case "validation":
            LitSentiment.validation_step = deadly(LitSentiment.validation_step)  # type: ignore
        case "checkpoint":
            call = min(call, 6)
            torch.save = deadly(torch.save, half_a_checkpoint)
        case "test":
            LitSentiment.test_step = deadly(LitSentiment.test_step)  # type: ignore
        case "results":
            call = 1
            results.write_results = deadly(results.write_results, half_the_results)
    main(arguments)


def run(runs: int, seed: int, arguments: tuple[str, ...] = ARGUMENTS) -> list[str]:
    """Does the whole comparison; returns what differed, one line per finding."""
    rng = random.Random(seed)
    findings = []
    with tempfile.TemporaryDirectory() as temporary:
        whole = Path(temporary, "whole")
        started = time.perf_counter()
        if _start(whole, [str(ROOT / "train.py"), "fit", *arguments]).wait() != 0:
            raise RuntimeError(f"the uninterrupted run failed: {(whole / 'log.txt').read_text()}")
        seconds = time.perf_counter() - started
        print(f"uninterrupted: {seconds:.1f} s", flush=True)
        for number in range(runs):
            phase = PHASES[number] if number < len(PHASES) else "random"
            folder = Path(temporary, f"run{number}")
            died = crash(folder, phase, rng, seconds, arguments)
            lines = differences(whole, folder)
            print(f"{number + 1}/{runs} died {died}: {lines or 'bit-identical'}", flush=True)
            findings += lines
    return findings


def main() -> None:
    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it tells of every purged point
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--die-in", choices=PHASES, help=argparse.SUPPRESS)
    parser.add_argument("--die-at", type=int, help=argparse.SUPPRESS)
    parser.add_argument("arguments", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.die_in:
        _die_in(options.die_in, options.die_at, options.arguments)
        return
    raise SystemExit(bool(run(options.runs, options.seed)))


if __name__ == "__main__":
    main()
