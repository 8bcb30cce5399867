"""Several processes do the work of one: no review is left out, padded in or met twice."""

import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from itertools import chain, takewhile
from pathlib import Path

import pytest
import torch
from conftest import ROOT, RUN, TINY, Run, Trained, checkpoint_of, results_of, shows

from benchmarks.timing import start
from lit_imdb.data.loader import BatchLoader, Split


class Numbered(Split):
    """A split whose reviews are their own numbers."""

    def __init__(self, count: int) -> None:
        self.ids = torch.arange(count)[:, None]
        self.labels = torch.zeros(count, dtype=torch.int8)


def met(count: int, world: int, seed: int | None) -> list[list[int]]:
    """The reviews that each process meets, sixteen at a time."""
    loaders = [BatchLoader(Numbered(count), 16, seed, rank, world) for rank in range(world)]
    return [[row for ids, _ in loader for row in ids[:, 0].tolist()] for loader in loaders]


@pytest.mark.parametrize("world", [1, 2, 3])
def test_reviews_are_met_once_but_for_a_remainder_in_training(world: int) -> None:
    for count in (1, 15, 16, 17, 100, 1000):
        assert sorted(chain(*met(count, world, None))) == list(range(count))
    trained = met(1000, world, 7)
    assert {len(rows) for rows in trained} == {1000 // (16 * world) * 16}
    assert len(set(chain(*trained))) == sum(map(len, trained))


def program(*args: object, **variables: str) -> subprocess.Popen[str]:
    command = [sys.executable, ROOT / "train.py", "fit", *TINY, *args]
    return start([*map(str, command)], Path.cwd(), **variables)


@pytest.mark.slow
def test_two_processes_stop_together_resume_and_test_like_one(
    works: Run, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(trained.cache))
    two = ("--devices", 2, "--strategy", "ddp", "--data.source", trained.corpus, "--max_epochs")
    stopped = program(*two, 1000)
    deadline = threading.Timer(100, stopped.kill)
    deadline.start()
    told = [*takewhile(lambda line: not line.startswith("epoch 2/"), stopped.stderr)]
    deadline.cancel()
    stopped.terminate()
    assert stopped.wait(30) == 143, told
    epochs = checkpoint_of(RUN)["epoch"] + 2
    assert epochs < 1000
    resumed = program(*two, epochs, "--ckpt_path", "last")
    out, err = resumed.communicate(timeout=120)
    assert resumed.returncode == 0, err
    assert out.count("test accuracy") == 1
    assert [path.name for path in RUN.parent.iterdir()] == ["version_0"]
    names = sorted(path.name for path in (RUN / "checkpoints").iterdir())
    assert names == ["best.ckpt", "last.ckpt"]
    assert results_of(RUN)["processes"] == 2
    assert shows(works("test", "--accelerator", "cpu").out, RUN)


@pytest.mark.slow
def test_a_signal_ends_a_program_that_waits_for_other_nodes(corpus: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    nodes = ("--trainer.num_nodes", 2, "--data.source", corpus)
    waiting = program(*nodes, MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    try:
        for _ in range(600):  # until it listens for the other node
            time.sleep(0.1)
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
        waiting.terminate()
        waiting.communicate(timeout=30)
    finally:
        waiting.kill()
    assert waiting.returncode == -signal.SIGTERM  # the shell's 143
