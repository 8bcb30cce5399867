"""Section f: whole processes, from the command to the final table."""

import shutil
import subprocess
import sys
import time
from statistics import median
from typing import Any

from benchmarks.setting import Setting
from benchmarks.turns import ROOT, environment, last_line


def measure(setting: Setting) -> dict[str, Any]:
    """Cold and warm `python train.py` and the tutorial's script, one after the other, in rounds."""
    folder = setting.folder / "whole"
    folder.mkdir()
    ours = [sys.executable, str(ROOT / "train.py"), "--data.source", "package"]
    if setting.quick:
        ours += ["--config", str(ROOT / "configs/smoke.yaml")]
    commands = {"cold": ours, "warm": ours}
    keras = None if setting.quick else setting.command("keras")
    if keras:
        commands["tutorial"] = [*keras, "--whole"]
    rounds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(1 if setting.quick else 7):
        shutil.rmtree(folder / "cache", ignore_errors=True)  # the first command prepares anew
        for name, command in commands.items():
            log = folder / f"{name}.log"
            started = time.perf_counter()
            with log.open("wb") as output:
                done = subprocess.run(
                    command, cwd=folder, env=environment(folder), stdout=output, stderr=output
                )
            rounds[name].append(time.perf_counter() - started)
            if done.returncode:
                raise RuntimeError(f"{name} ended with {done.returncode}: {last_line(log)}")
    return {name: {"seconds": median(times), "rounds": times} for name, times in rounds.items()}


def show(setting: Setting, found: dict[str, Any]) -> None:
    names = {
        "cold": "python train.py, empty cache",
        "warm": "python train.py, warm cache",
        "tutorial": "the tutorial's script, reviews already encoded",
    }
    tutorial = found.get("tutorial")
    rows = []
    for name, of in found.items():
        share = f"{of['seconds'] / tutorial['seconds']:.0%}" if tutorial else "-"
        rows.append([names[name], of["seconds"], share])
    setting.table("", ["f: whole process", "seconds", "of the tutorial's"], rows)
