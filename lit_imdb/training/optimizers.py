"""The optimizer and the schedule that the command line or a config file chose."""

import inspect
from functools import partial
from pydoc import locate
from typing import Any

from pytorch_lightning.cli import LightningCLI, instantiate_class
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CyclicLR, OneCycleLR

from lit_imdb.errors import UserError, as_user_error


def set_optimizer(model: Any, config: Any, saved: list[dict[str, Any]]) -> None:
    """Have `model` use what `config.optimizer` and `config.lr_scheduler` describe, if anything.

    Args:
        model: The LightningModule.
        config: The configuration of a command.
        saved: States of the schedules of the run that resumes.
    """
    if config.optimizer or config.lr_scheduler:
        own = model.configure_optimizers
        steps = next((state.get("total_steps") for state in saved), None)
        model.configure_optimizers = partial(_configure, model, own, config, steps)


def _configure(model: Any, own: Any, config: Any, steps: int | None) -> Any:
    """Return what `configure_optimizers` returns; the rate is the model's if no other is given.

    Raises:
        UserError: Settings that torch refuses, or a schedule for nothing that it could schedule.
    """
    if config.optimizer:
        class_path, settings = config.optimizer.class_path, config.optimizer.init_args.as_dict()
        rate = inspect.signature(locate(class_path)).parameters.get("lr")  # type: ignore[arg-type]
        if rate and settings["lr"] == rate.default:
            settings["lr"] = model.lr
        optimizer = _make("optimizer", model.parameters(), class_path, settings)
    else:
        optimizer = own()
    if not config.lr_scheduler:
        return optimizer
    if not isinstance(optimizer, Optimizer):
        raise UserError("--lr_scheduler: the model has schedules of its own; give --optimizer too")
    settings = config.lr_scheduler.init_args.as_dict()
    if "total_steps" in settings and not (settings["total_steps"] or settings["epochs"]):
        # not estimated again for a run that resumes: that would open its data before their
        # position is restored
        settings["total_steps"] = steps or model.trainer.estimated_stepping_batches
    schedule = _make("lr_scheduler", optimizer, config.lr_scheduler.class_path, settings)
    if isinstance(schedule, (OneCycleLR, CyclicLR)):  # Lightning steps the others once an epoch
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]
    return LightningCLI.configure_optimizers(model, optimizer, schedule)


def _make(kind: str, first: Any, class_path: str, settings: dict[str, Any]) -> Any:
    with as_user_error(f"--{kind} {class_path}", TypeError, ValueError):
        return instantiate_class(first, {"class_path": class_path, "init_args": settings})
