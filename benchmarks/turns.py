"""Worker processes that start side by side and then take turns: one computes, the others wait.

Standard library only, because peers in other environments import this file too.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
STEPS = 80  # timed steps of a turn
WARM_UP = 0.1  # untimed seconds before: other workers have used the caches
_PAUSE = 0.05  # seconds between turns, until the last worker's threads sleep
_PIPE = "LIT_IMDB_BENCHMARK_PIPE"


class Worker:
    """A process that takes a turn for each line on its standard input."""

    def __init__(self, command: list[str], folder: Path, log: Path) -> None:
        self._log = log
        reading, writing = os.pipe()  # for answers: standard output has the progress bar
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                env={**environment(folder), _PIPE: str(writing)},
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                pass_fds=[writing],
                text=True,
            )
        os.close(writing)
        self._answers = os.fdopen(reading)
        self._answer()  # it is ready

    def turn(self) -> dict[str, float]:
        """Seconds per step, by kind of step."""
        time.sleep(_PAUSE)
        print(file=self._process.stdin, flush=True)
        seconds: dict[str, float] = self._answer()
        return seconds

    def _answer(self) -> Any:
        line = self._answers.readline()
        if not line:
            raise RuntimeError(f"a worker ended: {last_line(self._log)} ({self._log.name})")
        return json.loads(line)

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._answers.close()


def turns() -> Iterator[Callable[[Any], None]]:
    """In a worker: say that it is ready, then yield for each turn the function that answers it."""
    pipe = os.fdopen(int(os.environ[_PIPE]), "w")

    def answer(content: Any) -> None:
        print(json.dumps(content), file=pipe, flush=True)

    answer("ready")
    for _ in sys.stdin:
        yield answer


def serve(run: Callable[[int], Any]) -> None:
    """In a worker: time `run(STEPS)` in each turn, as `bare` steps."""
    run(10)
    for answer in turns():
        end = time.perf_counter() + WARM_UP
        while time.perf_counter() < end:
            run(1)
        started = time.perf_counter()
        run(STEPS)
        answer({"bare": (time.perf_counter() - started) / STEPS})


def environment(folder: Path) -> dict[str, str]:
    """The environment of measured processes: no thread counts, and a cache below `folder`."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.endswith("_NUM_THREADS") and not name.startswith("PYTHON")
    }
    # FORCE_COLOR: draw progress bars as in a terminal
    extra = {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(folder / "cache"), "FORCE_COLOR": "1"}
    return {**kept, **extra}


def last_line(log: Path) -> str:
    return (log.read_text(errors="replace").strip().splitlines() or ["no output"])[-1]
