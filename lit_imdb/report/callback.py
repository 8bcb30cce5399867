"""The Lightning hooks of the review; what they show is in the files beside this one."""

import time
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor

from lit_imdb.data.loader import Batch
from lit_imdb.report import drawings, page
from lit_imdb.report.board import Board, write
from lit_imdb.report.evaluation import Evaluation
from lit_imdb.report.guard import Guard
from lit_imdb.report.panels import Panels
from lit_imdb.training import results
from lit_imdb.training.history import History, epochs_trained


class Review(Callback):
    """Shows in TensorBoard what the model learned, where it fails and whether it can learn.

    It draws no random number: a run has the same weights with it and without. With several
    processes it sees the reviews of the first.

    Args:
        history: What the report's curves and table are made of.
    """

    def __init__(self, history: History) -> None:
        self._history = history
        self._guard = Guard()
        self._panels: Panels | None = None
        self._logits: list[Tensor] = []  # (B,) each, of the evaluation that is going on
        self._last_line = 0.0, 0  # in the log: the time, and how many batches were trained on
        self._epochs: list[dict[str, float]] = []
        self._validations: list[dict[str, float]] = []
        self._figures: dict[str, Any] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        logger = trainer.logger
        if self._panels or not trainer.is_global_zero or not isinstance(logger, TensorBoardLogger):
            return
        with self._guard("everything"):
            board = Board(logger.experiment, Path(logger.log_dir))
            net: Any = pl_module.net
            data: Any = trainer.datamodule  # type: ignore[attr-defined]
            self._panels = Panels(board, net, data, self._guard)

    # --- training ---

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._last_line = _clock(trainer)
        if not self._panels:
            return
        self._panels.prepare()
        board = self._panels.board
        if board.folder not in Path(trainer.ckpt_path or "").parents:  # else it has the layout
            with self._guard("the custom scalars"):
                board.layout()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._last_line = _clock(trainer)  # validation is no training

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        if not self._panels or not pl_module.logs_now:
            return
        with self._guard("the speed and the gradient norm"):
            board = self._at(trainer).board
            speed = self._speed(trainer, self._panels.data.batch_size)
            board.scalar("train/reviews_per_second", speed)
            gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
            scaler = getattr(trainer.precision_plugin, "scaler", None)  # of 16-bit training
            scale = scaler.get_scale() if scaler else 1.0
            norm = float(torch.nn.utils.get_total_norm(gradients)) / scale
            board.scalar("train/gradient_norm", norm)
            board.scalar("train/lr", optimizer.param_groups[0]["lr"])

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # now, since the test of the best checkpoint takes the history back to its epoch
        self._epochs = list(self._history.epochs)
        self._validations = list(self._history.validations)
        with self._guard("the figures of the report"):
            self._figures = results.fit_figures(trainer, self._history)

    # --- held-out reviews ---

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._logits = []

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self._panels and not trainer.sanity_checking:
            self._logits.append(outputs)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._panels or trainer.sanity_checking:
            return
        with self._guard("the validation part"):
            epoch = epochs_trained(trainer)
            # the step of Lightning's own val/loss: a run resumed behind it must not redo it
            self._at(trainer, -1).held_out("val", epoch, self._evaluation(trainer, "val"))
            self._panels.validated(epoch)
        self._since, self._reviews = time.perf_counter(), 0

    on_test_epoch_start = on_validation_epoch_start
    on_test_batch_end = on_validation_batch_end

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._panels:
            return
        with self._guard("the test part"):
            epoch = self._figures.get("best_epoch") or trainer.current_epoch
            self._at(trainer).held_out("test", epoch, self._evaluation(trainer, "test"))
        with self._guard("the word space"):
            self._panels.word_space()

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._panels:
            return
        board = self._panels.board
        with self._guard("the curves of the report"):
            curves = drawings.draw_curves(self._epochs, self._validations)
            board.picture("curves", curves)
        with self._guard("report.html"):
            tested = {f"test_{n}": float(trainer.callback_metrics[f"test/{n}"]) for n in _TESTED}
            rows = results.fit_rows(self._figures | tested)
            content = page.page(rows, board.pictures, self._panels.tables)
            write(board.folder / "report.html", content.encode())

    # --- what a resumed run needs ---

    def state_dict(self) -> dict[str, Any]:
        return {"sentences": self._panels.sentences if self._panels else {}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self._panels:
            self._panels.sentences = dict(state_dict["sentences"])

    # --- helpers ---

    def _at(self, trainer: Trainer, offset: int = 0) -> Panels:
        """The panels, with the board at the step that Lightning's own curves have."""
        assert self._panels is not None
        self._panels.board.step = trainer.global_step + offset
        return self._panels

    def _speed(self, trainer: Trainer, batch_size: int) -> float:
        """Training reviews per second, of all processes, since the last line in the log."""
        since, before = self._last_line
        self._last_line = now, batches = _clock(trainer)
        return (batches - before) * batch_size * trainer.world_size / max(now - since, 1e-9)

    def _evaluation(self, trainer: Trainer, name: str) -> Evaluation:
        """What this process saw of a part: it has every `world_size`-th batch of it."""
        assert self._panels is not None
        part = self._panels.data.parts[name]
        size, world = self._panels.data.batch_size, trainer.world_size
        rows = torch.cat(
            [
                torch.arange(len(logits)) + index * world * size
                for index, logits in enumerate(self._logits)
            ]
        )
        probabilities = torch.sigmoid(torch.cat(self._logits).float()).cpu()
        return Evaluation(probabilities, part.labels[rows].float(), rows, part.ids[rows])


_TESTED = ("acc", "loss")


def _clock(trainer: Trainer) -> tuple[float, int]:
    return time.perf_counter(), trainer.fit_loop.total_batch_idx + 1
