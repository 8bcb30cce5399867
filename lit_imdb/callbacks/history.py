"""Keeps what the final table and `results.json` say of each epoch and each validation."""

import time
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer


class History(Callback):
    """Figures of the whole run; they travel in the checkpoint, so that a resumed run has them too.

    Attributes:
        epochs_before: Whether a checkpoint's figures belong to this run: not so where the file was
            taken out of its run folder, with the best checkpoint left behind.
        epochs: One dict per finished epoch: `seconds`, `train/acc`, `train/loss` (at its last line
            in the log).
        validations: One dict per validation: `epoch` (as `epochs_trained`), `val/acc`, `val/loss`.
        seconds: Wall time of fitting, over all sittings.
    """

    def __init__(self) -> None:
        self.epochs_before = True
        self.epochs: list[dict[str, float]] = []
        self.validations: list[dict[str, float]] = []
        self.seconds = 0.0
        self._fit_start = self._epoch_start = time.perf_counter()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._fit_start = time.perf_counter() - self.seconds

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._epoch_start = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            figures = _figures(trainer, "val/acc", "val/loss")
            self.validations.append({"epoch": epochs_trained(trainer), **figures})

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        seconds = time.perf_counter() - self._epoch_start
        self.epochs.append({"seconds": seconds, **_figures(trainer, "train/acc", "train/loss")})

    def state_dict(self) -> dict[str, Any]:
        return {
            "epochs": self.epochs,
            "validations": self.validations,
            "seconds": time.perf_counter() - self._fit_start,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self.epochs_before:
            self.epochs, self.seconds = state_dict["epochs"], state_dict["seconds"]
            self.validations = state_dict["validations"]

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seconds = time.perf_counter() - self._fit_start

    @property
    def best(self) -> dict[str, float]:
        """The validation whose checkpoint is `best.ckpt`; empty where there was none."""
        return max(self.validations, key=lambda figures: figures["val/acc"], default={})


def epochs_trained(trainer: Trainer) -> float:
    """Epochs that lie behind a validation: 2 at the end of the second, 1.5 in its middle."""
    loop = trainer.fit_loop
    share = (loop.batch_idx + 1) / loop.max_batches
    return trainer.current_epoch + (1 if share == 1 else round(share, 2))


def _figures(trainer: Trainer, *names: str) -> dict[str, float]:
    found = trainer.callback_metrics
    return {name: float(found[name]) for name in names if name in found}
