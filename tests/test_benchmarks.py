"""The benchmarks run, and the crash test sees what differs."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT, Trained

from benchmarks import crash


@pytest.mark.slow
def test_the_benchmarks_run_and_write_every_number(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "--quick", "--json", str(tmp_path / "all.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for what in ("in `fit`, `fused`", "alone, `fused`", "train.py`", "preparing", "`predict`"):
        assert what in done.stdout
    numbers = json.loads((tmp_path / "all.json").read_text())
    assert numbers["steps"]["fused"][0]["fit"] > 0


@pytest.mark.slow
def test_the_crash_test_sees_a_changed_weight_and_a_changed_metric(
    trained: Trained, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(trained.folder / "logs", other / "logs")
    assert crash.differences(trained.folder, other) == []
    run = other / "logs/imdb/version_0"
    checkpoint = torch.load(run / "checkpoints/best.ckpt", weights_only=True)
    checkpoint["state_dict"]["net.head.bias"] += 1e-7
    torch.save(checkpoint, run / "checkpoints/best.ckpt")
    results = json.loads((run / "results.json").read_text())
    results["test_acc"] += 1e-7
    (run / "results.json").write_text(json.dumps(results))
    for file in run.glob("events.*"):
        file.unlink()
    found = "\n".join(crash.differences(trained.folder, other))
    for name in ("state_dict.net.head.bias", "results.json.test_acc", "val/loss"):
        assert name in found
