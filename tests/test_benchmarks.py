"""`python -m benchmarks` runs; what it measures is not tested."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.slow
def test_the_benchmarks_run_and_write_every_number(tmp_path: Path) -> None:
    done = run("--quick", "--sections", "b,c", "--json", str(tmp_path / "figures.json"))
    assert done.returncode == 0, done.stderr
    assert "floor" in done.stdout
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["machine"]["versions"]["torch"]
    for threads in ("all", "1"):
        for name in ("fit", "fused", "sgemm", "sgemm_onednn", "breakdown"):
            seconds = [answer["seconds"] for answer in figures["steps"][threads][name]["rounds"]]
            assert len(seconds) == 2
            assert min(seconds) > 0


def test_the_step_has_the_arithmetic_that_the_page_on_performance_says() -> None:
    from benchmarks.training import flops

    assert round(flops() / 1e9, 2) == 1.15


@pytest.mark.parametrize("arguments", [("--sections", "x"), ("--peer", "keras")])
def test_a_wrong_argument_is_refused(arguments: tuple[str, str]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert "expected" in done.stderr
