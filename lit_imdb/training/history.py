"""Metrics and times of each epoch: a line on standard error, and the final table's source."""

import sys
import time
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.utilities import rank_zero_only


class History(Callback):
    """Keeps the metrics of the whole run, and prints each epoch's, in terminals and log files.

    Checkpoints have them, so a resumed run does too.

    Args:
        checkpoint: The callback that keeps `best.ckpt`, whose weights the final test uses.

    Attributes:
        epochs: One dict per finished epoch: `seconds`, and `train/acc` and `train/loss` of its last
            log line, if it has one.
        validations: One dict per validation: `val/acc`, `val/loss`, `step`, and `epoch`, the epochs
            trained: 2 at the end of the second, 1.5 in its middle.
        seconds: Wall time of fitting, over all resumptions.
    """

    def __init__(self, checkpoint: ModelCheckpoint) -> None:
        self._checkpoint = checkpoint
        self.epochs: list[dict[str, float]] = []
        self.validations: list[dict[str, float]] = []
        self.seconds = 0.0
        self._line: dict[str, float] = {}  # this epoch's last log line
        self._fit_start = self._epoch_start = time.perf_counter()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.validations and not self.has_best:
            # resumed outside its run folder: the best checkpoint so far was left behind
            self.epochs, self.validations, self.seconds = [], [], 0.0
        self._fit_start = time.perf_counter() - self.seconds
        where, batches = trainer.strategy.root_device, trainer.num_training_batches
        _say(f"training on {where}, {batches} batches per epoch")

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._epoch_start = time.perf_counter()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if pl_module.logs_now:
            metrics = trainer.callback_metrics
            self._line = {name: float(metrics[name]) for name in ("train/acc", "train/loss")}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            found = trainer.callback_metrics
            metrics = {name: float(found[name]) for name in ("val/acc", "val/loss")}
            loop = trainer.fit_loop
            share = (loop.batch_idx + 1) / loop.max_batches
            epoch = trainer.current_epoch + (1 if share == 1 else round(share, 2))
            self.validations.append({"epoch": epoch, "step": trainer.global_step, **metrics})

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.epochs.append({"seconds": time.perf_counter() - self._epoch_start, **self._line})
        self._line = {}
        epoch = trainer.current_epoch
        last = f"/{trainer.max_epochs}" if (trainer.max_epochs or 0) > 0 else ""
        line = f"epoch {epoch + 1}{last}{_shown('train', self.epochs[-1])}"
        if self.validations and self.validations[-1]["epoch"] > epoch:
            line += _shown("val", self.validations[-1])
            if self.validations[-1] is _best_of(self.validations):
                line += "  *best"
        _say(line)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seconds = time.perf_counter() - self._fit_start

    def state_dict(self) -> dict[str, Any]:
        return {
            "epochs": self.epochs,
            "validations": self.validations,
            "seconds": time.perf_counter() - self._fit_start,
            "line": self._line,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.epochs, self.validations = state_dict["epochs"], state_dict["validations"]
        self.seconds, self._line = state_dict["seconds"], state_dict["line"]

    @property
    def has_best(self) -> bool:
        """Whether there is a `best.ckpt`."""
        return bool(self._checkpoint.best_model_path)

    @property
    def kept(self) -> dict[str, float]:
        """The validation of the weights that the final test uses; empty if there was none."""
        if self.has_best:
            return _best_of(self.validations)
        return self.validations[-1] if self.validations else {}


def _best_of(validations: list[dict[str, float]]) -> dict[str, float]:
    return max(validations, key=lambda metrics: metrics["val/acc"])


def _shown(split: str, metrics: dict[str, float]) -> str:
    """Return nothing for an epoch without a log line."""
    if f"{split}/loss" not in metrics:
        return ""
    loss, accuracy = metrics[f"{split}/loss"], metrics[f"{split}/acc"]
    return f"  {split} loss {loss:.3f} acc {accuracy:.1%}"


@rank_zero_only
def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # rich shows it above the bar
