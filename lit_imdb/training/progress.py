"""What training prints on standard error: a line per epoch and, in terminals, a progress bar."""

import sys
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import RichProgressBar
from pytorch_lightning.utilities import rank_zero_only
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from lit_imdb.training.history import History


class EpochLines(Callback):
    """Prints what an epoch has brought, in terminals and log files alike.

    Args:
        history: Has the metrics; its hooks run first.
    """

    def __init__(self, history: History) -> None:
        self._history = history

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        where, batches = trainer.strategy.root_device, trainer.num_training_batches
        _say(f"training on {where}, {batches} batches per epoch")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epoch, validations = trainer.current_epoch, self._history.validations
        last = f"/{trainer.max_epochs}" if (trainer.max_epochs or 0) > 0 else ""
        line = f"epoch {epoch + 1}{last}{_metrics('train', self._history.epochs[-1])}"
        if validations and validations[-1]["epoch"] > epoch:
            line += _metrics("val", validations[-1])
            if validations[-1] is max(validations, key=lambda metrics: metrics["val/acc"]):
                line += "  *best"
        _say(line)


def _metrics(split: str, metrics: dict[str, float]) -> str:
    """Return nothing for an epoch without a log line."""
    if f"{split}/loss" not in metrics:
        return ""
    loss, accuracy = metrics[f"{split}/loss"], metrics[f"{split}/acc"]
    return f"  {split} loss {loss:.3f} acc {accuracy:.1%}"


@rank_zero_only
def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # rich shows it above the bar


class ProgressBar(RichProgressBar):
    """Shows "Epoch 1/4" as the final table counts, on one line of 80 columns.

    It goes to standard error: standard output is for tables.
    """

    def __init__(self) -> None:
        super().__init__(refresh_rate=10, console_kwargs={"stderr": True})

    def configure_columns(self, trainer: Trainer) -> list[ProgressColumn]:
        """Leave room for the metrics."""
        columns = (BarColumn(bar_width=10), MofNCompleteColumn(), TimeRemainingColumn(compact=True))
        return [TextColumn("{task.description}"), *columns]

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        metrics = super().get_metrics(trainer, pl_module)
        return {n.removeprefix("train/"): v for n, v in metrics.items() if n != "v_num"}

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        # the bar is there since the epoch's start or, in a resumed run, since its first batch
        if self.progress is not None and self.train_progress_bar_id is not None:
            epoch = f"Epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
            self.progress.update(self.train_progress_bar_id, description=epoch)
