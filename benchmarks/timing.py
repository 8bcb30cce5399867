"""Run commands, read what they print, and time training steps.

Standard library only, because peers in other environments import this file too.
"""

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from subprocess import PIPE, Popen
from typing import Any

ROOT = Path(__file__).parents[1]
WARM_UP, STEPS = 20, 100  # steps of an epoch before the timed ones, and those; 5 lines in the log


def start(command: list[str], folder: Path, **variables: str) -> Popen[str]:
    """Start a command in `folder`, with this checkout's packages and these variables."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, **variables}
    return Popen(command, cwd=folder, env=environment, stdout=PIPE, stderr=PIPE, text=True)


def finish(process: Popen[str]) -> str:
    """Wait for a process, which must succeed, and return what it printed."""
    out, err = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{process.args} ended with {process.returncode}: {err[-1000:]}")
    return out


def run(command: list[str], folder: Path) -> dict[str, float]:
    """Return the figures that a command prints as JSON; without `seconds` there, its own."""
    started = time.perf_counter()
    # FORCE_COLOR: draw progress bars as in a terminal
    process = start(command, folder, XDG_CACHE_HOME=str(folder / "cache"), FORCE_COLOR="1")
    lines = finish(process).splitlines()
    figures = {"seconds": time.perf_counter() - started}
    for line in lines:
        if line.startswith('{"'):
            figures |= json.loads(line)
    return figures


def print_step(take: Callable[[int], Any]) -> None:
    """Print the seconds of a step, where `take` takes so many."""
    take(WARM_UP)
    started = time.perf_counter()
    take(2 * STEPS)
    print(json.dumps({"seconds": (time.perf_counter() - started) / (2 * STEPS)}))


def medians(tasks: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Seconds of each task: the median of five rounds, in which they take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(1 + 5):
        for name, task in tasks.items():
            started = time.perf_counter()
            task()
            seconds[name].append(time.perf_counter() - started)
    return {name: median(each[1:]) for name, each in seconds.items()}  # the first one warms up


def memory_mb(process: int | str, name: str) -> float:
    """Memory of a process: `VmRSS` is that of now, `VmHWM` the most so far (Linux)."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.split(f"{name}:")[1].split()[0]) / 1024


def commit() -> str:
    """The commit that is measured."""
    command = f"git -C {ROOT} rev-parse --short HEAD 2>/dev/null"
    return subprocess.getoutput(command) or "unknown"
