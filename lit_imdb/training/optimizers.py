"""The optimizer and the schedule that the command line or a config file chose."""

import inspect
from functools import partial
from pydoc import locate
from typing import Any

from pytorch_lightning.cli import LightningCLI, instantiate_class
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CyclicLR, OneCycleLR

from lit_imdb.errors import UserError

_PER_STEP = (OneCycleLR, CyclicLR)  # Lightning steps the others once an epoch


def set_optimizer(model: Any, config: Any) -> None:
    """Have `model` use what `config.optimizer` and `config.lr_scheduler` describe, if anything."""
    if config.optimizer or config.lr_scheduler:
        own = model.configure_optimizers
        model.configure_optimizers = partial(
            _configure, model, own, config.optimizer, config.lr_scheduler
        )


def _configure(model: Any, own: Any, optimizer: Any, scheduler: Any) -> Any:
    """Return what `configure_optimizers` returns; the rate is the model's if no other is given.

    Raises:
        UserError: Settings that torch refuses, or a schedule for nothing that it could schedule.
    """
    made = own() if optimizer is None else _make("optimizer", model.parameters(), optimizer, model)
    if scheduler is None:
        return made
    if not isinstance(made, Optimizer):
        raise UserError("--lr_scheduler: the model has schedules of its own; give --optimizer too")
    schedule = _make("lr_scheduler", made, scheduler, model)
    if isinstance(schedule, _PER_STEP):
        return [made], [{"scheduler": schedule, "interval": "step"}]
    return LightningCLI.configure_optimizers(model, made, schedule)


def _make(kind: str, first: Any, spec: Any, model: Any) -> Any:
    settings = spec.init_args.as_dict()
    if kind == "optimizer":
        rate = inspect.signature(locate(spec.class_path)).parameters.get("lr")  # type: ignore[arg-type]
        if rate and settings["lr"] == rate.default:
            settings["lr"] = model.lr
    elif "total_steps" in settings and not (settings["total_steps"] or settings["epochs"]):
        settings["total_steps"] = model.trainer.estimated_stepping_batches
    try:
        return instantiate_class(first, {"class_path": spec.class_path, "init_args": settings})
    except (TypeError, ValueError) as error:
        raise UserError(f"--{kind} {spec.class_path}: {error}") from error
