"""Section d: reviews per second from ids to logits, in batches of 1, 128 and 4096."""

from typing import Any

from benchmarks.setting import Setting
from benchmarks.turns import median, take_turns

_BATCHES = {1: 40, 128: 20, 4096: 2}  # size -> batches a turn
_ENGINES = {"reference": "infer-reference", "rnn_tanh": "infer-cudnn", "folded": "infer-folded"}


def measure(setting: Setting) -> list[dict[str, Any]]:
    found = []
    with setting.workers(list(_ENGINES.values())) as workers:
        for batch, steps in _BATCHES.items():
            steps = min(steps, setting.steps)
            answers = take_turns(workers, max(setting.rounds // 2, 1), steps=steps, batch=batch)
            speeds = {name: batch / median(answers[key]) for name, key in _ENGINES.items()}
            found.append({"batch": batch, **speeds, "rounds": answers})
    return found


def show(setting: Setting, found: list[dict[str, Any]]) -> None:
    rows = []
    for size in found:
        speeds = [size[name] for name in _ENGINES]
        rows.append([f"batch {size['batch']}", *(f"{speed:,.0f}" for speed in speeds)])
        rows[-1].append(f"{speeds[2] / speeds[0]:.1f}")
    setting.table("", ["d: reviews/s", *_ENGINES, "folded/reference"], rows)
