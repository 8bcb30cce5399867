"""Measure the table of docs/performance.md and print it.

python -m benchmarks --json figures.json --peer keras=PYTHON --peer jax=PYTHON
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from shutil import which
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks import commands
from benchmarks.timing import ROOT
from lit_imdb import ImdbDataModule

SECTIONS = ("steps", "training", "preparation", "prediction")
RUNS = {
    "warm": "`python train.py`",
    "cold": "`python train.py`, nothing prepared",
    "tutorial": "the tutorial's script, ids prepared",
}


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor(),
        "cpus": len(os.sched_getaffinity(0)),
        "load_before": os.getloadavg()[0],
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("torch", "pytorch-lightning", "numpy")},
        "torch_cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "commit": subprocess.getoutput(f"git -C {ROOT} rev-parse --short HEAD"),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def write_ids(path: Path, cache: Path) -> None:
    """Write the packaged reviews as ids, for peers that do not have this package."""
    data = ImdbDataModule("package", cache_dir=str(cache))
    data.prepare_data()
    data.setup("fit")
    arrays = {}
    for split, loader in (("train", data.train_dataloader()), ("test", data.test_dataloader())):
        ids, labels = zip(*loader, strict=True)
        arrays[f"{split}_ids"] = torch.cat(ids).int().numpy()  # (N, T)
        arrays[f"{split}_labels"] = torch.cat(labels).float().numpy()  # (N,)
    np.savez(path, **arrays)


def measure(folder: Path, chosen: list[str], peers: dict[str, str], quick: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"machine": machine()}
    ids = folder / "ids.npz"
    write_ids(ids, folder / "steps/cache/lit-imdb")
    peer = {
        name: [python, "-m", f"benchmarks.{name}_peer", str(ids)] for name, python in peers.items()
    }
    for section in chosen:
        print(f"measuring: {section}", file=sys.stderr, flush=True)
        (folder / section).mkdir(exist_ok=True)
        found[section] = getattr(commands, section)(folder / section, peer, quick)
    return found


def table(found: dict[str, Any]) -> list[str]:
    """The table in Markdown; a ratio compares with the first row of its kind."""
    rows = []
    steps = {name: median(seconds) for name, seconds in found.get("steps", {}).items()}
    for name in sorted(steps, key=lambda name: name.startswith("alone")):
        ratio = steps[name] / next(iter(steps.values()))
        rows.append((f"training step {name}", f"{1e3 * steps[name]:.2f} ms", f"{ratio:.2f}"))
    training = {name: median(seconds) for name, seconds in found.get("training", {}).items()}
    for name in (name for name in RUNS if name in training):
        ratio = training[name] / training["warm"]
        rows.append((RUNS[name], f"{training[name]:.1f} s", f"{ratio:.2f}"))
    for size, runs in found.get("preparation", {}).items():
        each = 1e6 * median(run["seconds"] for run in runs) / int(size.replace(",", ""))
        peak = median(run["peak_mb"] for run in runs)
        rows.append((f"preparing {size} reviews", f"{each:.0f} us each, {peak:,.0f} MB", ""))
    if "prediction" in found:
        reviews, seconds = found["prediction"]["reviews"], median(found["prediction"]["seconds"])
        each = f"{reviews / seconds:,.0f} reviews/s"
        rows.append((f"`predict` with {reviews:,} reviews, start included", each, ""))
    head = ["| what | median | ratio |", "| --- | --- | --- |"]
    return [*head, *(f"| {' | '.join(row)} |" for row in rows)]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--json", type=Path, help="a file for every single number")
    parser.add_argument("--quick", action="store_true", help="only check that everything runs")
    parser.add_argument(
        "--peer",
        action="append",
        default=[],
        metavar="NAME=PYTHON",
        help="keras or jax, and an interpreter that has it",
    )
    options = parser.parse_args()
    peers = dict(peer.partition("=")[::2] for peer in options.peer)
    if set(peers) - set(commands.PEERS) or not all(peers.values()):
        parser.error("--peer: expected keras=PYTHON or jax=PYTHON")
    # absolute, since they run in another folder
    peers = {name: os.path.abspath(which(python) or python) for name, python in peers.items()}
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), options.sections, peers, options.quick)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    print("\n".join([json.dumps(found["machine"]), "", *table(found)]))


if __name__ == "__main__":
    main()
