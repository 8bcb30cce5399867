"""Processes that are set up side by side and then work in turns, so that nothing else computes.

The parent tells one worker at a time how many steps to do; meanwhile the others wait on a pipe of
their own, since standard output belongs to progress bars. Only the standard library is used: peers
in other environments import this file too.
"""

import json
import os
import select
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
WARM_UP = 0.1  # untimed seconds of a turn: the others have used the caches, and cores were asleep
_PAUSE = 0.05  # seconds between turns, until the threads of the last worker have stopped spinning
_SET_UP = 900.0  # seconds within which a worker must be ready
_PIPE = "LIT_IMDB_BENCHMARK_PIPE"

Request = dict[str, Any]
Steps = Callable[[int], Any]  # does so many steps, and returns when they are done


class Pipe:
    """The worker's end: requests come in, answers go out."""

    def __init__(self) -> None:
        reading, writing = map(int, os.environ[_PIPE].split(","))
        self._in, self._out = os.fdopen(reading), os.fdopen(writing, "w")

    def answer(self, content: Any) -> None:
        print(json.dumps(content), file=self._out, flush=True)

    def requests(self) -> Iterator[Request]:
        """One request after the other, until the parent is done."""
        for line in self._in:
            yield json.loads(line)


def serve(make: Callable[..., Steps], **first: Any) -> None:
    """Does what the parent asks for, one request at a time.

    Args:
        make: Gets what a request says, apart from `steps`, and returns what does the steps. They
            may return a dict of figures, which goes into the answer.
        first: A request to prepare before the worker says that it is ready.
    """
    pipe = Pipe()
    made: dict[str, Steps] = {}

    def find(request: Request) -> Steps:
        key = json.dumps(request, sort_keys=True)
        if key not in made:
            made[key] = make(**request)
        warm_up(made[key])
        return made[key]

    find(first)
    pipe.answer("ready")
    for request in pipe.requests():
        steps = request.pop("steps")
        run = find({**first, **request})
        started = time.perf_counter()
        figures = run(steps)
        seconds = time.perf_counter() - started
        pipe.answer({"seconds": seconds / steps, **(figures or {})})


def warm_up(run: Steps) -> None:
    end = time.perf_counter() + WARM_UP
    run(2)  # more than one where the first compiles
    while time.perf_counter() < end:
        run(1)


class Worker:
    """The parent's end: one process.

    Args:
        name: What tables call it.
        command: The interpreter and its arguments.
        folder: Where it runs and leaves NAME.log.
        one_cpu: Whether it may use one CPU alone; that holds for every library it imports.
        fixed: What every request to it says, whatever the others are asked.
    """

    def __init__(
        self, name: str, command: list[str], folder: Path, one_cpu: bool, **fixed: Any
    ) -> None:
        self.name, self._fixed = name, fixed
        there, writing = os.pipe()
        reading, back = os.pipe()
        self._out, self._in = os.fdopen(writing, "w"), os.fdopen(reading)
        self.log = folder / f"{name}{'.one_cpu' if one_cpu else ''}.log"
        with self.log.open("wb") as log, _affinity(one_cpu):
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                env={**environment(folder), _PIPE: f"{there},{back}"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(there, back),
            )
        os.close(there)
        os.close(back)

    def ready(self) -> bool:
        """Waits until it is set up; False where it failed, and its log says why."""
        return bool(select.select([self._in], [], [], _SET_UP)[0]) and bool(self._in.readline())

    def work(self, **request: Any) -> dict[str, float]:
        """Sends one request and waits for the answer: `seconds` a step, and more."""
        time.sleep(_PAUSE)
        print(json.dumps({**request, **self._fixed}), file=self._out, flush=True)
        line = self._in.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended in its turn: {last_line(self.log)}")
        answer: dict[str, float] = json.loads(line)
        return answer

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._out.close()
        self._in.close()


@contextmanager
def _affinity(one_cpu: bool) -> Iterator[None]:
    """Children started meanwhile may use one CPU alone, or all."""
    everything = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(everything)} if one_cpu else everything)
    try:
        yield
    finally:
        os.sched_setaffinity(0, everything)


def environment(folder: Path) -> dict[str, str]:
    """What measured processes get: no thread counts or Python settings from outside, a cache below
    `folder`. PYTHONDONTWRITEBYTECODE would have each start compile this program's files anew."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.endswith("_NUM_THREADS") and not name.startswith("PYTHON")
    }
    # FORCE_COLOR: rich is to draw its progress bars as in a terminal
    extra = {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(folder / "cache"), "FORCE_COLOR": "1"}
    return {**kept, **extra}


def take_turns(workers: dict[str, Worker], rounds: int, **request: Any) -> dict[str, list[Any]]:
    """All answers of each worker, measured A B C A B C ..."""
    answers: dict[str, list[Any]] = {key: [] for key in workers}
    for _ in range(rounds):
        for key, worker in workers.items():
            answers[key].append(worker.work(**request))
    return answers


def median(answers: list[dict[str, float]], figure: str = "seconds") -> float:
    return statistics.median(answer[figure] for answer in answers)


def last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return f"{lines[-1] if lines else 'no output'} ({log.name})"
