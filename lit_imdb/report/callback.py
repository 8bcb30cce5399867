"""The Lightning hooks of the report: numbers while it trains, pictures and tables at the end."""

import time
from typing import Any

import torch
from pytorch_lightning import Callback
from pytorch_lightning.loggers import TensorBoardLogger

from lit_imdb.report.board import Board
from lit_imdb.report.evaluation import Evaluation, Run, evaluate
from lit_imdb.training import results
from lit_imdb.training.history import History


class Report(Callback):
    """Shows what the model has learned, where it fails and whether it can learn.

    It needs a TensorBoardLogger and draws no random number: a run has the same weights with and
    without it. With several processes it sees the reviews of the first.

    Args:
        history: The metrics of the whole run.
    """

    def __init__(self, history: History) -> None:
        self._history = history
        self._board: Board | None = None  # in the first process, from the start of a fit
        self._since = 0.0, 0  # the last log line: its time, and the batches trained by then

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        loggers = [each for each in trainer.loggers if isinstance(each, TensorBoardLogger)]
        if trainer.is_global_zero and loggers:
            self._board = Board(loggers[0])

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._since = _clock(trainer)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        self._since = _clock(trainer)  # validation is not training

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        every = trainer.log_every_n_steps
        if not self._board or not every or (trainer.global_step + 1) % every:
            return
        with self._board.guard("the speed and the gradient norm"):
            (then, before), (now, batches) = self._since, _clock(trainer)
            self._since = now, batches
            reviews = (batches - before) * trainer.datamodule.batch_size * trainer.world_size
            numbers = {
                "train/reviews_per_second": reviews / max(now - then, 1e-9),
                "train/gradient_norm": _gradient_norm(trainer, pl_module, optimizer),
                "train/lr": optimizer.param_groups[0]["lr"],
            }
            self._board.scalars(numbers, trainer.global_step)

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if not self._board or trainer.sanity_checking:
            return
        # the step of Lightning's own val/loss: a run that resumes after it must not repeat it
        step = trainer.global_step - 1
        with self._board.guard("the validation"):
            evaluations = {"val": _evaluation(trainer, pl_module, "val")}
            run = Run(pl_module.net, trainer.datamodule, self._history, evaluations)
            self._board.scalars(run.trainability.numbers(), step)
            self._board.answers(run, "val", step)
            self._board.weights(run, step)

    def on_test_end(self, trainer: Any, pl_module: Any) -> None:
        """Show the weights that were tested: those of the best checkpoint."""
        figures = results.fit_figures(trainer, pl_module, trainer.datamodule, self._history)
        if not self._board:
            return
        with self._board.guard("pictures and tables"):
            evaluations = {
                "val": evaluate(pl_module.net, trainer.datamodule.splits["val"]),
                "test": _evaluation(trainer, pl_module, "test"),
            }
            run = Run(pl_module.net, trainer.datamodule, self._history, evaluations)
            for name in ("acc", "loss"):
                figures[f"test_{name}"] = float(trainer.callback_metrics[f"test/{name}"])
            self._board.answers(run, "test", trainer.global_step)
            self._board.projector(run, trainer.global_step)
            self._board.panels(run, results.fit_rows(figures), trainer.global_step)


def _clock(trainer: Any) -> tuple[float, int]:
    return time.perf_counter(), trainer.fit_loop.total_batch_idx + 1


def _gradient_norm(trainer: Any, pl_module: Any, optimizer: Any) -> float:
    """Return the norm over all weights, before clipping."""
    gradients = [weight.grad for weight in pl_module.parameters() if weight.grad is not None]
    scaler: Any = getattr(trainer.precision_plugin, "scaler", None)  # of 16-bit training
    scaled = scaler and optimizer.defaults.get("fused")  # others' gradients are unscaled by now
    return float(torch.nn.utils.get_total_norm(gradients)) / (scaler.get_scale() if scaled else 1.0)


def _evaluation(trainer: Any, pl_module: Any, split: str) -> Evaluation:
    """Return what this process saw of a split: every `world_size`-th batch of it."""
    logits = [logits for logits, _ in pl_module.evaluated]  # (B,) each
    stride = trainer.world_size * trainer.datamodule.batch_size
    rows = [torch.arange(len(each)) + n * stride for n, each in enumerate(logits)]
    probabilities = torch.sigmoid(torch.cat(logits).float()).cpu()
    return Evaluation(trainer.datamodule.splits[split], torch.cat(rows), probabilities)
