"""Sections a, b, c and g: a training step against its peers, the floor, Lightning, and sizes."""

import statistics
from typing import Any

from benchmarks.setting import Setting
from benchmarks.turns import median, take_turns

PEERS = ("eager", "rnn_tanh", "compile", "keras", "jax")
SGEMM = ["sgemm", "sgemm_onednn"]
_SGEMM_FLOPS = 2 * 2048**3


def flops(
    max_length: int = 80, hidden_dim: int = 64, batch: int = 128, embedding: int = 100
) -> int:
    """Arithmetic of one training step, matrix products alone.

    With T tokens, B reviews, E numbers a word, H hidden units: the first cell multiplies (B, E) by
    (E, H) and (B, H) by (H, H), the second twice (B, H) by (H, H), for each token; a product of
    (m, k) and (k, n) takes 2 m k n. So forward 2 T B (E H + 3 H H), and backward twice that, since
    each product has two factors that want a gradient. 1.15 GFLOP with the tutorial's sizes.
    """
    t, b, e, h = max_length, batch, embedding, hidden_dim
    return 3 * 2 * t * b * (e * h + 3 * h * h)


def steps(setting: Setting, sections: str) -> dict[str, Any]:
    """Sections a, b and c, from the same rounds, with all threads and with one."""
    found: dict[str, Any] = {}
    for threads in ("all", "1"):
        names = ["fused", "fit"]
        if "a" in sections:
            names += [
                n for n in PEERS if n != "compile" or (threads == "all" and not setting.quick)
            ]
        names += SGEMM if "b" in sections else []
        names += ["breakdown"] if "c" in sections else []
        with setting.workers(names, threads) as workers:
            answers = take_turns(workers, setting.rounds, steps=setting.steps)
        found[threads] = {name: {"seconds": median(a), "rounds": a} for name, a in answers.items()}
    return found


def show_steps(setting: Setting, found: dict[str, Any], sections: str) -> None:
    times = {t: {n: f["seconds"] for n, f in of.items()} for t, of in found.items()}
    if "a" in sections:
        rows = []
        for name in ("fit", "fused", *PEERS):
            row = [name]
            for of in times.values():
                there = name in of
                row += [f"{1e3 * of[name]:.2f}" if there else "-"]
                row += [f"{of[name] / of['fit']:.2f}" if there else "-"]
            rows.append(row)
        columns = ["a: training step", "all threads, ms", "of fit", "1 thread, ms", "of fit"]
        setting.table("", columns, rows)
    if "b" in sections:
        rows = []
        for threads, of in times.items():
            for product in SGEMM:
                floor = flops() * of[product] / _SGEMM_FLOPS
                shares = [f"{floor / of[name]:.1%}" for name in ("fused", "fit")]
                speed = _SGEMM_FLOPS / of[product] / 1e9
                library = "torch.mm" if product == "sgemm" else "oneDNN"
                rows.append([f"{threads}, {library}", speed, 1e3 * floor, *shares])
        columns = ["b: threads", "sgemm, GFLOP/s", "floor, ms", "share, fused", "share, fit"]
        setting.table("", columns, rows)
    if "c" in sections:
        parts = {t: _parts(of) for t, of in found.items()}
        rows = [[name, *(p[name] for p in parts.values())] for name in parts["all"]]
        setting.table("", ["c: part of a step in fit", "all threads, ms", "1 thread, ms"], rows)


def _parts(of: dict[str, Any]) -> dict[str, float]:
    answers = of["breakdown"]["rounds"]
    parts = {name: median(answers, name) for name in answers[0] if name != "seconds"}
    parts["sum"] = sum(parts.values())
    # fit's time on both sides of the bare loops: the machine changes its speed from time to time
    inner = [one for turn in of["fit"]["rounds"] for one in turn["inner"]]
    rounds = [{**one, "fit": (one["fit"] + one["again"]) / 2} for one in inner]
    parts["bare loop, by turns with fit in one process"] = 1e3 * median(rounds, "bare")
    parts["the same without torch's look for a profiler"] = 1e3 * median(rounds, "spared")
    parts["in trainer.fit"] = 1e3 * median(rounds, "fit")
    for name, loop in (("to the bare loop", "bare"), ("to that without the look", "spared")):
        shares = [one["fit"] / one[loop] - 1 for one in rounds]
        parts[f"Lightning adds {name}, %"] = 100 * statistics.median(shares)
    return parts


def sizes(setting: Setting) -> list[dict[str, Any]]:
    """Section g: the step at growing T and growing H."""
    lengths, widths = (
        ((80, 160), (64, 128)) if setting.quick else ((80, 160, 320, 640), (64, 128, 256, 512))
    )
    every = [{"max_length": t} for t in lengths] + [{"hidden_dim": h} for h in widths[1:]]
    found = []
    with setting.workers(["eager", "fused", "sgemm"]) as workers:
        product = workers.pop("sgemm")
        for size in every:
            floors = []
            answers: dict[str, list[Any]] = {name: [] for name in workers}
            for _ in range(max(setting.rounds // 3, 1)):
                one = take_turns(workers, 1, steps=max(setting.steps // 4, 1), **size)
                for name, answer in one.items():
                    answers[name] += answer
                floors.append(product.work())
            floor = flops(**size) * median(floors) / _SGEMM_FLOPS
            seconds = {name: median(answer) for name, answer in answers.items()}
            found.append({**size, "floor": floor, **seconds, "rounds": answers})
    return found


def show_sizes(setting: Setting, found: list[dict[str, Any]]) -> None:
    rows = []
    for size in found:
        name = f"T {size['max_length']}" if "max_length" in size else f"H {size['hidden_dim']}"
        ms = [1e3 * size[key] for key in ("eager", "fused", "floor")]
        rows.append([name, *ms, ms[0] / ms[1], f"{ms[2] / ms[1]:.1%}"])
    columns = ["g: size", "eager, ms", "fused, ms", "floor, ms", "eager/fused", "floor/fused"]
    setting.table("", columns, rows)
