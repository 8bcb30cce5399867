"""Keeps `last.ckpt` so fresh that a run cut off anywhere goes on from it, bit for bit."""

import math
import os
import signal
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint

from lit_imdb.errors import UserError
from lit_imdb.interrupts import Interrupted, handle_stop_signals, stop_at_once
from lit_imdb.training.checkpoint import read_checkpoint, run_of


class StopFlag:
    """Remembers the first signal; a second one stops at once."""

    def __init__(self) -> None:
        self.signum: int | None = None

    def listen(self) -> None:
        handle_stop_signals(self._remember)

    def _remember(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is not None:
            raise Interrupted(signum)
        self.signum = signum


class LastCheckpoint(Checkpoint):
    """Writes `checkpoints/last.ckpt`: at the start, every `every_n_steps`, after each epoch.

    On SIGTERM or Ctrl-C it lets the step finish, writes, and ends the program before the next one.

    Args:
        every_n_steps: Training steps between two writes within an epoch.
    """

    def __init__(self, every_n_steps: int) -> None:
        self.every_n_steps = every_n_steps
        self.path: Path | None = None
        self._stop = StopFlag()
        self._leaving = False
        self._alone = True  # whether this is the only process: to ask at each step takes 5 us

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.path = Path(trainer.log_dir or trainer.default_root_dir, "checkpoints", "last.ckpt")
        self._stop.listen()
        self._alone = trainer.world_size == 1
        if trainer.global_step == 0:
            self._save(trainer)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self._leaving:  # by now the step before is in the log
            self._raise()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # in a resumed run Lightning leaves out the validation of the step it starts behind, so a
        # checkpoint waits for it; an epoch's last one waits for the epoch's own figures as well
        if self._is_time(trainer) and not _validates_after(trainer, batch_idx):
            self._save_within_epoch(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking and self._is_time(trainer):
            self._save_within_epoch(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save(trainer)
        if self._must_stop(trainer):
            self._raise()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        stop_at_once()  # what follows, the test, changes nothing that is kept

    def _save_within_epoch(self, trainer: Trainer) -> None:
        batches = trainer.fit_loop.batch_idx + 1
        if trainer.is_last_batch or batches % trainer.accumulate_grad_batches:
            return  # summed gradients are in no checkpoint
        self._leaving = self._must_stop(trainer)
        self._save(trainer)

    def _is_time(self, trainer: Trainer) -> bool:
        """Whether to save, since the program was told to stop or has gone on for long enough."""
        return self._must_stop(trainer) or trainer.global_step % self.every_n_steps == 0

    def _save(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(self.path)  # type: ignore[arg-type]

    def _must_stop(self, trainer: Trainer) -> bool:
        """Whether any process was told to stop: they must leave after the same step."""
        stop = self._stop.signum is not None
        if self._alone:
            return stop
        return trainer.strategy.reduce_boolean_decision(stop, all=False)

    def _raise(self) -> None:
        raise Interrupted(self._stop.signum or signal.SIGTERM, str(self.path))


def _validates_after(trainer: Trainer, batch_idx: int) -> bool:
    """Whether `val_check_interval` has a validation follow this batch of the epoch."""
    every, epochs = trainer.val_check_batch or math.inf, trainer.check_val_every_n_epoch
    if epochs is None:  # counted over all epochs
        batch_idx = trainer.fit_loop.total_batch_idx
    elif (trainer.current_epoch + 1) % epochs:
        return False
    return trainer.enable_validation and (batch_idx + 1) % every == 0


def _move(state: dict[str, Any], folder: Path) -> None:
    """Has a ModelCheckpoint's state, which names its files, mean those in `folder`."""

    def moved(name: str) -> str:
        return str(folder / Path(name).name)

    if not Path(moved(state.get("best_model_path") or "")).is_file():
        return
    for key in ("best_model_path", "kth_best_model_path", "last_model_path"):
        if state.get(key):
            state[key] = moved(state[key])
    scores = state.get("best_k_models") or {}
    state["best_k_models"] = {moved(name): score for name, score in scores.items()}
    state["dirpath"] = str(folder)


class DurableCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints whole or not at all, even when the power fails or the disk is full."""

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """What `read_checkpoint` gives, whatever was asked for: nothing else is ever loaded.

        Where it lies in a run folder, so do the files that it names, wherever they were before.
        """
        checkpoint = read_checkpoint(Path(path))
        if run_of(str(path)):
            for state in checkpoint.get("callbacks", {}).values():
                _move(state, Path(path).parent)
        return checkpoint

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Writes beside `path`, waits for the disk, then takes the place of what was there.

        Raises:
            UserError: The file cannot be written; the old one is still good.
        """
        path = Path(path)
        temporary = path.with_suffix(".tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except (OSError, RuntimeError) as error:  # torch wraps a full disk into a RuntimeError
            temporary.unlink(missing_ok=True)
            raise UserError(
                f"cannot write {path} ({error}): free some space; the checkpoints written before "
                "are good, and `python train.py fit --ckpt_path last` goes on from them"
            ) from error
