"""The crash test sees what differs."""

import json
import shutil
from pathlib import Path

import torch
from conftest import Trained

from benchmarks import crash


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
