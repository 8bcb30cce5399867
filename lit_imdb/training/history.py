"""Keeps what the final table and `results.json` say of each epoch and each validation."""

import time
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint


class History(Callback):
    """Figures of the whole run; they travel in the checkpoint, so that a resumed run has them too.

    Args:
        checkpoint: What keeps `best.ckpt`, the weights that the final test is of.

    Attributes:
        epochs: One dict per finished epoch: `seconds`, and `train/acc` and `train/loss` of its last
            line in the log, if it has one.
        validations: One dict per validation: `epoch` (as `epochs_trained`), `val/acc`, `val/loss`.
        seconds: Wall time of fitting, over all sittings.
    """

    def __init__(self, checkpoint: ModelCheckpoint) -> None:
        self._checkpoint = checkpoint
        self.epochs: list[dict[str, float]] = []
        self.validations: list[dict[str, float]] = []
        self.seconds = 0.0
        self._fit_start = self._epoch_start = time.perf_counter()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.validations and not self.keeps_best:
            # taken out of its run folder: the best checkpoint of what was before is left behind
            self.epochs, self.validations, self.seconds = [], [], 0.0
        self._fit_start = time.perf_counter() - self.seconds

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._epoch_start = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            found = trainer.callback_metrics
            figures = {name: float(found[name]) for name in ("val/acc", "val/loss")}
            self.validations.append({"epoch": epochs_trained(trainer), **figures})

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epoch = {"seconds": time.perf_counter() - self._epoch_start}
        line: Any = pl_module.last_line
        if line and line["epoch"] == trainer.current_epoch:
            epoch |= {"train/acc": line["acc"], "train/loss": line["loss"]}
        self.epochs.append(epoch)

    def state_dict(self) -> dict[str, Any]:
        return {
            "epochs": self.epochs,
            "validations": self.validations,
            "seconds": time.perf_counter() - self._fit_start,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.epochs, self.validations = state_dict["epochs"], state_dict["validations"]
        self.seconds = state_dict["seconds"]

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seconds = time.perf_counter() - self._fit_start

    @property
    def keeps_best(self) -> bool:
        """Whether there is a `best.ckpt`."""
        return bool(self._checkpoint.best_model_path)

    @property
    def tested(self) -> dict[str, float]:
        """The validation of the weights that the final test is of; empty where there was none."""
        if self.keeps_best:
            return max(self.validations, key=lambda figures: figures["val/acc"])
        return self.validations[-1] if self.validations else {}


def epochs_trained(trainer: Trainer) -> float:
    """Epochs that lie behind a validation: 2 at the end of the second, 1.5 in its middle."""
    loop = trainer.fit_loop
    share = (loop.batch_idx + 1) / loop.max_batches
    return trainer.current_epoch + (1 if share == 1 else round(share, 2))
