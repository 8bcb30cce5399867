"""Write checkpoints whole, and `last.ckpt` often enough to resume a run cut off anywhere."""

import math
import signal
from itertools import chain
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint, ModelCheckpoint

from lit_imdb.errors import UserError, as_user_error
from lit_imdb.files import whole_file
from lit_imdb.interrupts import Interrupted, handle_stop_signals, stop_on_signals
from lit_imdb.training.checkpoint import link_run, read_checkpoint


class BestCheckpoint(ModelCheckpoint):
    """Keeps `best.ckpt`, beside those that the user's checkpoint callbacks keep."""

    state_key = "ModelCheckpoint of best.ckpt"  # theirs may have the same settings

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Stay with the file in the run's folder, which may have moved; forget one that is gone."""
        best, here = state_dict["best_model_path"], f"{self.dirpath}/best.ckpt"
        if best and Path(here).is_file():
            best = here
            state_dict |= {"best_model_path": here, "kth_best_model_path": here}
            state_dict["best_k_models"] = {here: state_dict["best_model_score"]}
            state_dict["dirpath"] = self.dirpath
        if best and Path(best).is_file():
            super().load_state_dict(state_dict)


class LastCheckpoint(Checkpoint):
    """Writes `checkpoints/last.ckpt`: at the start, every `every_n_steps`, after each epoch.

    On SIGTERM or Ctrl-C it lets the step finish, writes, and ends the program before the next one;
    a second signal ends it at once. Lightning's own handling of SIGTERM is not used: a process that
    it stops may leave the others waiting for it in a collective call.

    Args:
        every_n_steps: Training steps between two writes within an epoch.
    """

    def __init__(self, every_n_steps: int) -> None:
        self.every_n_steps = every_n_steps
        self.path: Path | None = None
        self._signum: int | None = None  # of the first signal
        self._leaving = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.path = Path(trainer.log_dir or trainer.default_root_dir, "checkpoints", "last.ckpt")
        link_run(trainer)
        handle_stop_signals(self._remember)
        if trainer.global_step == 0:
            self._save(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if self._leaving:  # by now the previous step is in the log
            self._raise()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # where a validation follows, save after it: a resumed run would skip it
        if not _validates_after(trainer, batch_idx):
            self._save_if_due(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self._save_if_due(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save(trainer)
        if self._must_stop(trainer):
            self._raise()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        stop_on_signals()  # the test, which follows, changes nothing that is kept

    def _save_if_due(self, trainer: Trainer) -> None:
        """Save within an epoch if enough steps have passed or the program must stop."""
        batches = trainer.fit_loop.batch_idx + 1
        if trainer.is_last_batch or batches % trainer.accumulate_grad_batches:
            return  # the epoch's metrics are to come; no checkpoint has accumulated gradients
        self._leaving = self._must_stop(trainer)
        if self._leaving or trainer.global_step % self.every_n_steps == 0:
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(self.path)  # type: ignore[arg-type]
        Interrupted.checkpoint = str(self.path)

    def _must_stop(self, trainer: Trainer) -> bool:
        """Return whether any process got a signal: all must leave after the same step."""
        return trainer.strategy.reduce_boolean_decision(self._signum is not None, all=False)

    def _remember(self, signum: int, frame: FrameType | None) -> None:
        if self._signum is not None:
            raise Interrupted(signum)
        self._signum = signum

    def _raise(self) -> None:
        raise Interrupted(self._signum or signal.SIGTERM)


def _validates_after(trainer: Trainer, batch_idx: int) -> bool:
    """Return whether `val_check_interval` asks for a validation after this batch of the epoch."""
    interval, epochs = trainer.val_check_batch or math.inf, trainer.check_val_every_n_epoch
    if epochs is None:  # counted over all epochs
        batch_idx = trainer.fit_loop.total_batch_idx
    elif (trainer.current_epoch + 1) % epochs:
        return False
    return trainer.enable_validation and (batch_idx + 1) % interval == 0


def check_optimizer(trainer: Trainer) -> None:
    """Refuse a checkpoint's optimizer state that is not as large as its weight.

    torch's fused optimizers write past a shorter one. Which state is whose is known only once the
    optimizer has it.

    Raises:
        UserError: There is one.
    """
    for optimizer in trainer.optimizers:
        groups = [group["params"] for group in optimizer.param_groups if group.get("fused")]
        for weight in chain.from_iterable(groups):
            for name, value in optimizer.state.get(weight, {}).items():
                expected = () if name == "step" else weight.shape
                if value is not None and getattr(value, "shape", None) != expected:
                    problem = f"the optimizer's {name} is not as large as its weight"
                    raise UserError(f"{trainer.ckpt_path}: {problem}")


class DurableCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints whole or not at all, and loads only what `read_checkpoint` accepts."""

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint of this program."""
        return read_checkpoint(Path(path), check_network=False)

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write a checkpoint, and wait until it is on the disk.

        Raises:
            UserError: The file cannot be written; the old one is still there.
        """
        path = Path(path)
        for state in checkpoint.get("callbacks", {}).values():
            best = state.get("best_model_path")
            # Lightning remembers one of another folder until there is a new one
            if best and Path(str(state["dirpath"])) not in Path(best).parents:
                state["best_model_path"] = ""
        advice = "free some space, then `python train.py fit --ckpt_path last` resumes"
        # torch turns a full disk into a RuntimeError
        with as_user_error(f"cannot write {path}", OSError, RuntimeError, advice=advice):
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as file:
                torch.save(checkpoint, file)
