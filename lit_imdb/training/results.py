"""The numbers of a run: a table on the screen, and `results.json` with settings and versions."""

import inspect
import json
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

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.core.saving import save_hparams_to_yaml
from pytorch_lightning.loggers import TensorBoardLogger
from rich.console import Console
from rich.table import Table
from torch import nn

from lit_imdb.clock import STARTED
from lit_imdb.files import whole_file
from lit_imdb.training.history import History

_LIBRARIES = ("torch", "pytorch-lightning", "torchtext", "datasets", "numpy")


def fit_metrics(trainer: Trainer, model: nn.Module, data: Any, history: History) -> dict[str, Any]:
    """Return the metrics of a finished fit; those of the final test are added later."""
    validation = history.kept
    logger = trainer.logger  # `trainer.log_dir` would wait for the other processes
    epochs = [epoch["seconds"] for epoch in history.epochs]
    return {
        "source": data.source,
        "reviews": {name: len(split) for name, split in data.splits.items()},
        "skipped_empty": data.counts["skipped"],
        "dropped_duplicates": data.counts["dropped"],
        "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "epochs": len(epochs),
        "best_epoch": validation["epoch"] if history.has_best else None,
        "val_acc": validation.get("val/acc"),
        "val_loss": validation.get("val/loss"),
        "seconds_per_epoch": sum(epochs) / len(epochs) if epochs else None,
        "seconds": history.seconds,
        "device": str(trainer.strategy.root_device),
        "processes": trainer.world_size,
        "run": getattr(logger, "log_dir", None) or getattr(logger, "save_dir", None),
    }


def fit_rows(metrics: dict[str, Any]) -> dict[str, str]:
    """Return the rows of the final table."""
    reviews = metrics["reviews"]
    unseen = f"{metrics['skipped_empty']:,} empty, {metrics['dropped_duplicates']:,} duplicate"
    rows = {
        "source": metrics["source"],
        "reviews": ", ".join(f"{name} {count:,}" for name, count in reviews.items()),
        "dropped": unseen,
        "parameters": f"{metrics['parameters']:,}",
        "epochs": f"{metrics['epochs']}, the best was {metrics['best_epoch'] or '-'}",
        "val accuracy": metric_pair(metrics["val_acc"], metrics["val_loss"]),
        "test accuracy": metric_pair(metrics["test_acc"], metrics["test_loss"]),
        "seconds": f"{_seconds(metrics['seconds_per_epoch'])} per epoch, "
        f"{time.perf_counter() - STARTED:.1f} total",
    }
    for name, value in metrics.items():
        if name.startswith("found_"):
            shown = f"{value:.3g}" if isinstance(value, float) else str(value)
            rows[f"{name.removeprefix('found_')} found"] = shown
    if metrics["run"]:
        rows["run folder"] = metrics["run"]
        if Path(metrics["run"], "report.html").is_file():
            rows["report"] = f"{metrics['run']}/report.html"
        if any(Path(metrics["run"]).glob("events.*")):
            rows["view with"] = f"tensorboard --logdir {Path(metrics['run']).parents[1]}"
    return rows


def summary(metrics: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """Return what `results.json` holds: metrics, config, commit, versions."""
    versions = {name: version(name) for name in (*_LIBRARIES, "lit-imdb")}
    versions["python"] = platform.python_version()
    elapsed = time.perf_counter() - STARTED
    start = datetime.now().astimezone() - timedelta(seconds=elapsed)
    changed = metrics["changed"].items()
    return {
        **metrics,
        "changed": dict(sorted(changed, key=lambda item: not item[0].startswith("model."))),
        "date": start.isoformat(" ", "seconds"),
        "seconds_total": elapsed,
        "machine": f"{platform.platform()}, {os.cpu_count()} CPU cores, {metrics['device']}",
        **git_state(),
        "versions": versions,
        "config": config,
    }


def write_results(run: Path, content: dict[str, Any]) -> None:
    """Write `results.json` into the run folder, after all else: with it, the run is finished."""
    with whole_file(run / "results.json") as file:
        file.write((json.dumps(content, indent=2) + "\n").encode())


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
            found[prefix + name] = value
    return found


def add_found(
    metrics: dict[str, Any], config: dict[str, Any], used: Mapping[str, Mapping[str, Any]]
) -> None:
    """Put the settings that model and data used into `config`, and what a callback found apart.

    Args:
        metrics: Gain `found_lr` and the like, and their `changed` such a setting.
        config: The configuration of `fit`.
        used: The hyperparameters of `model` and `data`.
    """
    for group, hparams in used.items():
        given = config[group]
        given |= given.pop("init_args")
        for name in ("lr", "batch_size"):
            if name in hparams and hparams[name] != given.get(name):
                metrics[f"found_{name}"] = hparams[name]
                metrics["changed"][f"{group}.{name}"] = hparams[name]
        given |= hparams


def _defaults(class_path: str) -> dict[str, Any]:
    """Return the default of each argument of a class, as JSON has it."""
    arguments = inspect.signature(cast(Any, locate(class_path))).parameters.values()
    defaults = {each.name: each.default for each in arguments}
    return {n: list(value) if isinstance(value, tuple) else value for n, value in defaults.items()}


def write_hparams(trainer: Trainer, module: LightningModule) -> None:
    """Write `hparams.yaml` again when training starts.

    Lightning writes it once, before a learning rate finder or other settings of a resumed run.
    """
    if trainer.is_global_zero and isinstance(trainer.logger, TensorBoardLogger):
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        hparams = {**module.hparams, **data.hparams}
        save_hparams_to_yaml(Path(trainer.logger.log_dir, "hparams.yaml"), hparams)


def print_table(title: str, rows: dict[str, str]) -> None:
    """Print names and values; long paths are folded, never cut."""
    table = Table(title=title, show_header=False, title_justify="left")
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, value)
    Console().print(table)


def percent(accuracy: float | None) -> str:
    return "-" if accuracy is None else f"{accuracy:.2%}"


def metric_pair(accuracy: float | None, loss: float | None) -> str:
    return f"{percent(accuracy)} (loss {'-' if loss is None else format(loss, '.4f')})"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def git_state() -> dict[str, Any]:
    """Return the commit of the code and whether files differ from it; None without git."""
    describe = ["describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]
    command = ["git", "-C", str(Path(__file__).parent), *describe]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return {"git_commit": None, "git_dirty": None}
    commit, dirty, _ = done.stdout.strip().partition("-dirty")
    return {"git_commit": commit or None, "git_dirty": bool(dirty) if commit else None}
