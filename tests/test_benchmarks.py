"""The crash test sees what differs, and what is for a GPU runs."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from conftest import RUN, Trained, results_of

from benchmarks import crash
from benchmarks.timing import finish, start


def test_the_crash_test_sees_a_changed_weight_and_a_changed_metric(
    trained: Trained, tmp_path: Path
) -> None:
    run = tmp_path / RUN
    shutil.copytree(trained.run, run)
    assert crash.differences(trained.folder, tmp_path) == []
    checkpoint = torch.load(run / "checkpoints/best.ckpt", weights_only=True)
    checkpoint["state_dict"]["net.head.bias"] += 1e-7
    torch.save(checkpoint, run / "checkpoints/best.ckpt")
    results = results_of(run)
    (run / "results.json").write_text(json.dumps({**results, "test_acc": 0.5}))
    for file in run.glob("events.*"):
        file.unlink()
    found = "\n".join(crash.differences(trained.folder, tmp_path))
    for name in ("net.head.bias", "test_acc", "val/loss"):
        assert name in found


@pytest.mark.slow
def test_what_is_measured_on_a_gpu_can_be_tried_on_a_cpu(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--quick"]
    out = finish(start(command, tmp_path))
    assert "| reference | cudnn | cudnn in CUDA graphs | torch.nn.RNN |" in out
    assert "| step in `fit` on cpu |" in out
    assert "| `predict` on cpu |" in out
