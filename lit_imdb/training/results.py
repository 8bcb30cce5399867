"""The numbers of a run: a table on the screen, and `results.json` with settings and versions."""

import inspect
import os
import platform
import subprocess
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from pydoc import locate
from typing import Any, cast

from rich.console import Console
from rich.table import Table

from lit_imdb.clock import STARTED
from lit_imdb.training.history import History

_PACKAGES = ("torch", "pytorch-lightning", "torchtext", "datasets", "numpy", "lit-imdb")


def results_of(
    trainer: Any,
    model: Any,
    data: Any,
    history: History,
    tested: Mapping[str, float],
    config: dict[str, Any],
    default: dict[str, Any],
) -> dict[str, Any]:
    """Return what `results.json` holds: metrics, settings, versions.

    Args:
        trainer: Where and how it was trained.
        model: The LightningModule.
        data: The data module.
        history: The metrics of its training and validation.
        tested: Those of its final test; empty if no review was tested.
        config: All settings; `model` and `data` become those that were used in the end.
        default: The settings without any flag.
    """
    settings = config["fit"]
    changed, found = changes(settings, default["fit"]), {}
    used = (("model", "lr", model.hparams), ("data", "batch_size", data.hparams))
    for group, name, hparams in used:
        settings[group] |= settings[group].pop("init_args", {})
        if name in settings[group] and hparams[name] != settings[group][name]:  # a finder's
            found[f"found_{name}"] = changed[f"{group}.{name}"] = hparams[name]
        settings[group] |= hparams
    kept = history.kept
    epochs = [epoch["seconds"] for epoch in history.epochs]
    device = str(trainer.strategy.root_device)
    elapsed = time.perf_counter() - STARTED
    start = datetime.now().astimezone() - timedelta(seconds=elapsed)
    versions = {name: version(name) for name in _PACKAGES}
    return {
        "source": data.source,
        "reviews": {name: len(split) for name, split in data.splits.items()},
        "skipped_empty": data.counts["skipped"],
        "dropped_duplicates": data.counts["dropped"],
        "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "epochs": len(epochs),
        "best_epoch": kept["epoch"] if history.has_best else None,
        "val_acc": kept.get("val/acc"),
        "val_loss": kept.get("val/loss"),
        "test_acc": tested.get("test/acc"),
        "test_loss": tested.get("test/loss"),
        "seconds_per_epoch": sum(epochs) / max(len(epochs), 1),
        "seconds": history.seconds,
        "seconds_total": elapsed,
        "date": start.isoformat(" ", "seconds"),
        "seed": settings["seed_everything"],
        **found,
        "changed": dict(sorted(changed.items(), key=lambda each: not each[0].startswith("model."))),
        # `trainer.log_dir` would wait for the other processes
        "run": trainer.logger.log_dir if trainer.logger else None,
        "device": device,
        "processes": trainer.world_size,
        "machine": f"{platform.platform()}, {os.cpu_count()} CPU cores, {device}",
        **_git_state(),
        "versions": {**versions, "python": platform.python_version()},
        "config": config,
    }


def changes(config: Mapping[str, Any], default: Any, prefix: str = "") -> dict[str, Any]:
    """Return the settings that differ from the default, by the names of their flags.

    >>> changes({"model": {"lr": 0.1, "dropout": 0.2}}, {"model": {"lr": 0.01, "dropout": 0.2}})
    {'model.lr': 0.1}
    """
    found: dict[str, Any] = {}
    for name, value in config.items():
        before = default.get(name) if isinstance(default, Mapping) else None
        if isinstance(value, Mapping):
            if before is None and "class_path" in value:  # an optimizer or a schedule
                before = {"init_args": _defaults(value["class_path"])}
            found |= changes(value, before, prefix if name == "init_args" else f"{prefix}{name}.")
        elif value != before and prefix + name != "model.vocab_size":  # it follows data.vocab_size
            objects = isinstance(value, list) and any(isinstance(each, Mapping) for each in value)
            found[prefix + name] = ", ".join(map(_described, value)) if objects else value
    return found


def _described(spec: Mapping[str, Any]) -> str:
    """Return a call of a class with the settings that differ from its defaults."""
    settings = changes(spec.get("init_args", {}), _defaults(spec["class_path"])).items()
    arguments = ", ".join(f"{name}={value}" for name, value in settings)
    return f"{spec['class_path'].rpartition('.')[2]}({arguments})"


def _defaults(class_path: str) -> dict[str, Any]:
    """Return the default of each argument of a class, as JSON has it."""
    arguments = inspect.signature(cast(Any, locate(class_path))).parameters.values()
    defaults = {each.name: each.default for each in arguments}
    return {n: list(value) if isinstance(value, tuple) else value for n, value in defaults.items()}


def _git_state() -> dict[str, Any]:
    """Return the commit of the code and whether files differ from it; None without git."""
    describe = ["describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]
    command = ["git", "-C", str(Path(__file__).parent), *describe]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return {"git_commit": None, "git_dirty": None}
    commit, dirty, _ = done.stdout.strip().partition("-dirty")
    return {"git_commit": commit or None, "git_dirty": bool(dirty) if commit else None}


def print_results(results: Mapping[str, Any]) -> None:
    """Print the final table: the content of `results.json` in short."""
    skipped, dropped = results["skipped_empty"], results["dropped_duplicates"]
    total = time.perf_counter() - STARTED
    rows = {
        "source": results["source"],
        "reviews": ", ".join(f"{name} {count:,}" for name, count in results["reviews"].items()),
        "dropped": f"{skipped:,} empty, {dropped:,} duplicate",
        "parameters": f"{results['parameters']:,}",
        "epochs": f"{results['epochs']}, the best was {results['best_epoch'] or '-'}",
        "val accuracy": metric_pair(results["val_acc"], results["val_loss"]),
        "test accuracy": metric_pair(results["test_acc"], results["test_loss"]),
        "seconds": f"{results['seconds_per_epoch']:.1f} per epoch, {total:.1f} total",
    }
    for name in ("lr", "batch_size"):
        if found := results.get(f"found_{name}"):
            rows[f"{name} found"] = f"{found:g}"
    if run := results["run"]:
        rows["run folder"] = run
        if Path(run, "report.html").is_file():
            rows["report"] = f"{run}/report.html"
        if any(Path(run).glob("events.*")):
            rows["view with"] = f"tensorboard --logdir {Path(run).parents[1]}"
    print_table("lit-imdb", rows)


def print_table(title: str, rows: dict[str, str]) -> None:
    """Print names and values; long paths are folded, never cut."""
    table = Table(title=title, show_header=False, title_justify="left")
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, value)
    Console().print(table)


def metric_pair(accuracy: float | None, loss: float | None) -> str:
    """Return both in words; dashes where nothing was measured."""
    missing = accuracy is None or loss is None
    return "- (loss -)" if missing else f"{accuracy:.2%} (loss {loss:.4f})"
