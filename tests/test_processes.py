"""Several processes do the work of one: no review is left out, padded in or met twice."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, TINY, Trained, train_py

from lit_imdb.data.loader import BatchLoader, Split

TWO = ["--accelerator", "cpu", "--devices", "2", "--strategy", "ddp"]


class Numbered(Split):
    """A split whose reviews are their own numbers."""

    def __init__(self, count: int) -> None:
        self.ids = torch.arange(count)[:, None]
        self.labels = torch.zeros(count, dtype=torch.int8)


def rows(loader: BatchLoader) -> list[int]:
    return [row for ids, _ in loader for row in ids[:, 0].tolist()]


@pytest.mark.parametrize("count", [1, 15, 16, 17, 100, 1000])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_held_out_reviews_are_met_once_each(count: int, world: int) -> None:
    split = Numbered(count)
    met = [rows(BatchLoader(split, 16, None, rank, world)) for rank in range(world)]
    assert sorted(np.concatenate(met).tolist()) == list(range(count))


@pytest.mark.parametrize("world", [1, 2, 3])
def test_training_reviews_are_met_once_but_for_the_remainder(world: int) -> None:
    split = Numbered(1000)
    loaders = [BatchLoader(split, 16, 7, rank, world) for rank in range(world)]
    met = [rows(loader) for loader in loaders]
    assert len({len(loader) for loader in loaders}) == 1
    together = np.concatenate(met).tolist()
    assert len(together) == len(set(together)) == 1000 // (16 * world) * 16 * world


@pytest.mark.slow
def test_two_processes_train_write_one_run_and_test_like_one(trained: Trained) -> None:
    folder = trained.folder / "two"
    folder.mkdir()
    cache = {"XDG_CACHE_HOME": str(trained.cache)}
    done = train_py(*TINY, *TWO, "--data.source", trained.corpus, cwd=folder, **cache)
    assert done.status == 0, done
    assert done.out.count("test accuracy") == 1
    run = folder / "logs/imdb/version_0"
    assert [path.name for path in run.parent.iterdir()] == ["version_0"]
    checkpoints = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert checkpoints == ["best.ckpt", "last.ckpt"]
    results = json.loads((run / "results.json").read_text())
    assert results["processes"] == 2
    figures = []
    for processes in ([], TWO):
        tested = train_py("test", *processes, cwd=folder, **cache)
        assert tested.status == 0, tested
        figures.append([line for line in tested.out.splitlines() if "│ test" in line])
    assert len(figures[0]) == 3
    assert figures[0] == figures[1]
    assert f"{results['test_acc']:.2%}" in figures[0][1]


@pytest.mark.slow
def test_two_processes_stop_together_and_go_on(trained: Trained, tmp_path: Path) -> None:
    arguments = [*TINY, *TWO, "--max_epochs", "200", "--data.source", str(trained.corpus)]
    environment = {**os.environ, "XDG_CACHE_HOME": str(trained.cache), "OMP_NUM_THREADS": "1"}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "train.py"), "fit", *arguments],
            cwd=tmp_path,
            env=environment,
            stdout=log,
            stderr=log,
        )
        last = tmp_path / "logs/imdb/version_0/checkpoints/last.ckpt"
        deadline = time.monotonic() + 60
        while not last.is_file() or torch.load(last, weights_only=True)["epoch"] < 2:
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail((tmp_path / "log").read_text())
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143
    steps = torch.load(last, weights_only=True)["global_step"]
    assert steps < 200 * 9
    done = train_py(
        "fit",
        "--ckpt_path",
        "last",
        *TINY,
        *TWO,
        "--data.source",
        trained.corpus,
        "--max_epochs",
        torch.load(last, weights_only=True)["epoch"] + 2,
        cwd=tmp_path,
        XDG_CACHE_HOME=str(trained.cache),
    )
    assert done.status == 0, done
