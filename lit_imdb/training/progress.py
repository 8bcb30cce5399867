"""The progress bar: Lightning's, with epochs counted from 1 and on standard error."""

import time
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
from rich.table import Column

_SECONDS = 0.25  # of training between two pictures


class ProgressBar(RichProgressBar):
    """Shows "Epoch 1/4", as the final table counts, and only figures that change.

    It goes to standard error: standard output belongs to tables and predictions.
    """

    def __init__(self) -> None:
        # how often a thread looks whether to draw; the end of a run waits for its last look
        super().__init__(refresh_rate=20, console_kwargs={"stderr": True})
        self._told = 0.0  # when the bar last heard of a batch

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # Lightning keeps its books at every step, 1 % of a run, and a picture takes a millisecond
        now = time.monotonic()
        if trainer.is_last_batch or now - self._told >= _SECONDS:
            self._told = now
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def configure_columns(self, trainer: Trainer) -> list[ProgressColumn]:
        """One line in a terminal of 80 columns: what room there is goes to the bar."""
        whole = Column(no_wrap=True)
        figures: Any = self._metric_component
        figures._table_column = whole
        return [
            TextColumn("{task.description}", table_column=whole),
            BarColumn(),
            MofNCompleteColumn(table_column=whole),
            TimeRemainingColumn(compact=True, table_column=whole),
        ]

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        metrics = super().get_metrics(trainer, pl_module)
        return {n.removeprefix("train/"): v for n, v in metrics.items() if n != "v_num"}

    def _get_train_description(self, current_epoch: int) -> str:
        return f"Epoch {current_epoch + 1}/{self.trainer.max_epochs}"
