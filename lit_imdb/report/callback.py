"""The Lightning hooks of the report: numbers while it trains, pictures and tables at the end."""

import time
from itertools import chain
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor

from lit_imdb.data.loader import Batch
from lit_imdb.report.board import Board
from lit_imdb.report.evaluation import Evaluation, evaluate
from lit_imdb.report.page import page
from lit_imdb.report.panels import CHARTS, NUMBERS
from lit_imdb.report.run import Run
from lit_imdb.training import results
from lit_imdb.training.history import History, epochs_trained


class Report(Callback):
    """Shows what the model has learned, where it fails and whether it can learn.

    It needs a TensorBoardLogger and draws no random number: a run has the same weights with and
    without it. With several processes it sees the reviews of the first.

    Args:
        history: The numbers of the whole run.
    """

    def __init__(self, history: History) -> None:
        self._history = history
        self._board: Board | None = None  # in the first process, from the start of a fit
        self._since = 0.0, 0  # the last log line: its time, and the batches trained by then
        self._logits: list[Tensor] = []  # (B,) each, of the current evaluation
        self._numbers: list[dict[str, float]] = []  # see `Run`
        self._fitted: dict[str, Any] = {}  # what is known of the run when training ends

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        loggers = [each for each in trainer.loggers if isinstance(each, TensorBoardLogger)]
        if stage == "fit" and trainer.is_global_zero and loggers:
            self._board = Board(loggers[0])
            with self._board.guard("the custom scalars"):
                self._board.writer.add_custom_scalars(CHARTS)

    # --- training ---

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._since = _clock(trainer)

    on_train_start = on_train_epoch_start  # a run that resumes within an epoch has only this one

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._since = _clock(trainer)  # validation is not training

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if not self._board or not every or (trainer.global_step + 1) % every:
            return
        with self._board.guard("the speed and the gradient norm"):
            (then, before), (now, batches) = self._since, _clock(trainer)
            self._since = now, batches
            reviews = (batches - before) * _data(trainer).batch_size * trainer.world_size
            numbers = {
                "train/reviews_per_second": reviews / max(now - then, 1e-9),
                "train/gradient_norm": _gradient_norm(trainer, optimizer),
                "train/lr": optimizer.param_groups[0]["lr"],
            }
            self._board.scalars(numbers, trainer.global_step)

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
        if self._board:
            self._logits.append(outputs)

    on_test_epoch_start = on_validation_epoch_start
    on_test_batch_end = on_validation_batch_end

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._board or trainer.sanity_checking:
            return
        # the step of Lightning's own val/loss: a run that resumes after it must not repeat it
        step = trainer.global_step - 1
        numbers: dict[str, float] = {}
        with self._board.guard("the validation"):
            net: Any = pl_module.net
            run = Run(net, _data(trainer), {"val": self._evaluation(trainer, "val")})
            for name, measure in NUMBERS.items():
                with self._board.guard(name):
                    numbers |= measure(run)
            self._board.scalars(numbers, step)
            self._board.answers(run, "val", step)
            self._board.weights(run, step)
        self._numbers.append({"epoch": epochs_trained(trainer), **numbers})

    # --- the end ---

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep what loading the best checkpoint takes back to its epoch."""
        figures = results.fit_figures(trainer, self._history)  # all processes: it communicates
        if self._board:
            self._fitted = {
                "step": trainer.global_step,
                "figures": figures,
                "epochs": list(self._history.epochs),
                "validations": list(self._history.validations),
                "numbers": list(self._numbers),
            }

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the weights that were tested: those of the best checkpoint."""
        if not self._board or not self._fitted:
            return
        with self._board.guard("pictures and tables"):
            net: Any = pl_module.net
            data, fitted, step = _data(trainer), self._fitted, self._fitted["step"]
            test, val = self._evaluation(trainer, "test"), evaluate(net, data.parts["val"])
            lists = fitted["epochs"], fitted["validations"], fitted["numbers"]
            kept = fitted["figures"]["best_epoch"]
            run = Run(net, data, {"val": val, "test": test}, *lists, kept=kept)
            self._board.scalars(test.numbers("test"), step)
            self._board.answers(run, "test", step)
            self._board.projector(run, step)
            drawn = self._board.panels(run, step)
            tested = {f"test_{n}": float(trainer.callback_metrics[f"test/{n}"]) for n in _TESTED}
            summary = results.fit_rows(fitted["figures"] | tested)
            self._board.write("report.html", page(summary, drawn).encode())

    # --- what a resumed run needs ---

    def state_dict(self) -> dict[str, Any]:
        return {"numbers": self._numbers}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._numbers = list(state_dict["numbers"])

    # --- helpers ---

    def _evaluation(self, trainer: Trainer, split: str) -> Evaluation:
        """What this process saw of a split: every `world_size`-th batch of it."""
        data = _data(trainer)
        stride = trainer.world_size * data.batch_size
        rows = [torch.arange(len(each)) + n * stride for n, each in enumerate(self._logits)]
        return Evaluation.of(data.parts[split], self._logits, torch.cat(rows))


_TESTED = ("acc", "loss")


def _data(trainer: Trainer) -> Any:
    return trainer.datamodule  # type: ignore[attr-defined]


def _clock(trainer: Trainer) -> tuple[float, int]:
    return time.perf_counter(), trainer.fit_loop.total_batch_idx + 1


def _gradient_norm(trainer: Trainer, optimizer: torch.optim.Optimizer) -> float:
    """Of all weights, before clipping."""
    weights = chain(*(group["params"] for group in optimizer.param_groups))
    norm = torch.nn.utils.get_total_norm([w.grad for w in weights if w.grad is not None])
    scaler: Any = getattr(trainer.precision_plugin, "scaler", None)  # of 16-bit training
    scaled = scaler and optimizer.defaults.get("fused")  # others' gradients are unscaled by now
    return float(norm) / (scaler.get_scale() if scaled else 1.0)
