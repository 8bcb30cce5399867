"""Several processes do the work of one: no review is left out, padded in or met twice."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from itertools import chain, takewhile
from pathlib import Path

import pytest
import torch
from conftest import ROOT, TINY, Run, Trained, results_of, train_py

from benchmarks.timing import start
from lit_imdb.data.loader import BatchLoader, Split

TWO = ["--accelerator", "cpu", "--devices", "2", "--strategy", "ddp"]


class Numbered(Split):
    """A split whose reviews are their own numbers."""

    def __init__(self, count: int) -> None:
        self.ids = torch.arange(count)[:, None]
        self.labels = torch.zeros(count, dtype=torch.int8)


def met(count: int, world: int, seed: int | None) -> list[list[int]]:
    """The reviews that each process meets."""
    split = Numbered(count)
    loaders = [BatchLoader(split, 16, seed, rank, world) for rank in range(world)]
    return [[row for ids, _ in loader for row in ids[:, 0].tolist()] for loader in loaders]


@pytest.mark.parametrize("world", [1, 2, 3])
def test_reviews_are_met_once_but_for_a_remainder_in_training(world: int) -> None:
    for count in (1, 15, 16, 17, 100, 1000):
        assert sorted(chain(*met(count, world, None))) == list(range(count))
    found = met(1000, world, 7)
    steps = 1000 // (16 * world)
    assert [len(rows) for rows in found] == [steps * 16] * world
    assert len(set(chain(*found))) == steps * 16 * world


@pytest.mark.slow
def test_two_processes_stop_together_resume_and_test_like_one(
    run: Run, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(trained.cache))
    fit = ["fit", *TINY, *TWO, "--data.source", str(trained.corpus), "--max_epochs"]
    folder = tmp_path / "logs/imdb/version_0"
    last = folder / "checkpoints/last.ckpt"
    process = start([sys.executable, str(ROOT / "train.py"), *fit, "1000"], tmp_path)
    deadline = threading.Timer(100, process.kill)
    deadline.start()
    told = [*takewhile(lambda line: not line.startswith("epoch 2/"), process.stderr)]
    deadline.cancel()
    process.terminate()
    assert process.wait(30) == 143, told
    epochs = torch.load(last, weights_only=True)["epoch"] + 2
    assert epochs < 1000
    done = train_py(*fit, epochs, "--ckpt_path", "last", cwd=tmp_path)
    assert done.status == 0, done
    assert done.out.count("test accuracy") == 1
    assert [path.name for path in folder.parent.iterdir()] == ["version_0"]
    names = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert names == ["best.ckpt", "last.ckpt"]
    results = results_of(folder)
    assert results["processes"] == 2
    tested = run("test", "--accelerator", "cpu")
    assert f"{results['test_loss']:.4f}" in tested.out
    assert f"{results['test_acc']:.2%}" in tested.out


@pytest.mark.slow
def test_a_signal_ends_a_program_that_waits_for_other_nodes(corpus: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    two_nodes = ["--trainer.num_nodes", "2", "--data.source", str(corpus)]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *TINY, *two_nodes],
        env={**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)},
    )
    try:
        for _ in range(600):  # until it listens for the other node
            time.sleep(0.1)
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
        process.terminate()
        process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == -signal.SIGTERM  # the shell's 143
