"""Keeps what the final table and `results.json` say of each epoch."""

import time
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

_KEPT = ("val/loss", "val/acc", "train/loss", "train/acc")


class History(Callback):
    """Figures and seconds of each epoch; they travel in the checkpoint, so that a resumed run's
    table covers the whole run.

    Attributes:
        epochs_before: Whether a checkpoint's epochs belong to this run: not so where the file was
            taken out of its run folder, with the best checkpoint left behind.
        epochs: One dict per finished epoch: `epoch` (from 0), `val/acc`, `val/loss`, `train/acc`,
            `train/loss` (at its last line in the log), `seconds`.
        seconds: Wall time of fitting, over all sittings.
    """

    def __init__(self) -> None:
        self.epochs_before = True
        self.epochs: list[dict[str, float]] = []
        self.seconds = 0.0
        self._fit_start = self._epoch_start = time.perf_counter()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._fit_start = time.perf_counter() - self.seconds

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._epoch_start = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.epochs.append(
            {
                "epoch": trainer.current_epoch,
                "seconds": time.perf_counter() - self._epoch_start,
                **{name: figures[name] for name in _KEPT if name in figures},
            }
        )

    def state_dict(self) -> dict[str, Any]:
        return {"epochs": self.epochs, "seconds": time.perf_counter() - self._fit_start}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self.epochs_before:
            self.epochs, self.seconds = state_dict["epochs"], state_dict["seconds"]

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seconds = time.perf_counter() - self._fit_start

    @property
    def best(self) -> dict[str, float]:
        """The epoch whose checkpoint is `best.ckpt`; empty where none was validated."""
        return max(
            (epoch for epoch in self.epochs if "val/acc" in epoch),
            key=lambda epoch: epoch["val/acc"],
            default={},
        )
