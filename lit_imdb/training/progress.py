"""The progress bar, for terminals."""

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

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        # the bar is there since the epoch's start or, in a resumed run, since its first batch
        if self.progress is not None and self.train_progress_bar_id is not None:
            epoch = f"Epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
            self.progress.update(self.train_progress_bar_id, description=epoch)
