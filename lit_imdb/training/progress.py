"""The progress bar: Lightning's, with epochs counted from 1 and on standard error."""

from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import RichProgressBar
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)


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

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_epoch_start(trainer, pl_module)
        self._count_from_one(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        self._count_from_one(trainer)  # a run that resumes within an epoch starts the bar here

    def _count_from_one(self, trainer: Trainer) -> None:
        if self.progress is not None and self.train_progress_bar_id is not None:
            epoch = f"Epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
            self.progress.update(self.train_progress_bar_id, description=epoch)
