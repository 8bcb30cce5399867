"""Measures everything that docs/performance.md says, in one run.

python -m benchmarks --json figures.json
"""

import argparse
import json
import os
import platform
import tempfile
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from benchmarks import inference, preparation, training, whole
from benchmarks.setting import Setting
from lit_imdb.training.results import git_commit

SECTIONS = {
    "a": "a training step against its peers",
    "b": "the floor: the step's arithmetic at the machine's own speed",
    "c": "what Lightning adds, and where each millisecond goes",
    "d": "inference",
    "e": "preparation and epochs at growing size",
    "f": "whole processes",
    "g": "the step at growing T and H",
}


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor(),
        "cpus": len(os.sched_getaffinity(0)),
        "load_before": os.getloadavg()[0],
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("torch", "pytorch-lightning", "numpy")},
        "torch_cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "commit": git_commit(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def run(setting: Setting, sections: str) -> dict[str, Any]:
    """Measures and prints the chosen sections."""
    found: dict[str, Any] = {"machine": machine(), "quick": setting.quick}
    setting.say(json.dumps(found["machine"]))
    setting.write_reviews()
    if set("abc") & set(sections):
        found["steps"] = training.steps(setting, sections)
        training.show_steps(setting, found["steps"], sections)
    for section, module in {"d": inference, "e": preparation, "f": whole}.items():
        if section in sections:
            found[section] = module.measure(setting)  # type: ignore[attr-defined]
            module.show(setting, found[section])  # type: ignore[attr-defined]
    if "g" in sections:
        found["g"] = training.sizes(setting)
        training.show_sizes(setting, found["g"])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n".join(f"  {letter}  {text}" for letter, text in SECTIONS.items()),
    )
    parser.add_argument("--sections", default=",".join(SECTIONS), help="such as a,b,c")
    parser.add_argument("--json", type=Path, help="a file for every number")
    parser.add_argument("--quick", action="store_true", help="only see that everything runs")
    parser.add_argument(
        "--peer",
        action="append",
        default=[],
        metavar="NAME=PYTHON",
        help="keras or jax, and the interpreter that has it; by default this one",
    )
    options = parser.parse_args()
    sections = options.sections.replace(",", "")
    if not sections or set(sections) - set(SECTIONS):
        parser.error(f"--sections {options.sections}: expected some of {','.join(SECTIONS)}")
    peers = dict(peer.partition("=")[::2] for peer in options.peer)
    if set(peers) - {"keras", "jax"} or not all(peers.values()):
        parser.error("--peer: expected keras=PYTHON or jax=PYTHON")
    with tempfile.TemporaryDirectory() as folder:
        found = run(Setting(Path(folder), options.quick, peers), sections)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
