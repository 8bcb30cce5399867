"""Time a command from outside, and training steps inside of a process that prints what it found.

Standard library only, because peers in other environments import this file too.
"""

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
WARM_UP, STEPS = 20, 100  # steps of an epoch before the timed ones, and those; 5 lines in the log


def print_step(run: Callable[[int], Any]) -> None:
    """Print the seconds of a step, where `run` takes so many steps."""
    run(WARM_UP)
    started = time.perf_counter()
    run(2 * STEPS)
    print(json.dumps({"step": (time.perf_counter() - started) / (2 * STEPS)}))


def run(command: list[str], folder: Path) -> tuple[float, Any]:
    """Run a command, which must succeed.

    Returns:
        Its seconds, and the JSON that it prints in a line of its own; None if there is none.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.endswith("_NUM_THREADS") and not name.startswith("PYTHON")
    }
    # FORCE_COLOR: draw progress bars as in a terminal
    own = {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(folder / "cache"), "FORCE_COLOR": "1"}
    started = time.perf_counter()
    done = subprocess.run(
        command, cwd=folder, env={**kept, **own}, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - started
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise RuntimeError(f"{command[1:4]} ended with {done.returncode}: {last}")
    return seconds, next(
        (json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"')), None
    )
