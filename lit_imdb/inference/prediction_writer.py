"""Gathers the answers of every process and has the first one write them, in order.

Shapes: B reviews of one process.
"""

import sys
import time

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from lit_imdb.inference.batches import PredictBatch
from lit_imdb.inference.outputs import Output
from lit_imdb.inference.prediction import figures_of, predictions_of


class PredictionWriter(Callback):
    """Writes each step of `Trainer.predict` into `output`, and shows a progress bar on standard
    error.

    Args:
        output: Where the answers go.
        progress: Whether to show the bar and a last line; both only in the first process.
    """

    def __init__(self, output: Output, progress: bool = True) -> None:
        self.output = output
        self.progress = progress
        self._start = time.perf_counter()
        self._bar: Progress | None = None

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start = time.perf_counter()
        console = Console(stderr=True)
        mixed = self.output.path is None and sys.stdout.isatty()  # answers on the same screen
        if self.progress and trainer.is_global_zero and console.is_terminal and not mixed:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TimeRemainingColumn(),
                console=console,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._bar.add_task("predicting", total=None)
            self._bar.start()

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Tensor,
        batch: PredictBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        figures = figures_of(outputs, batch.ids)  # (B, 3)
        everyone = [figures]
        if trainer.world_size > 1:
            everyone = [torch.empty_like(figures) for _ in range(trainer.world_size)]
            torch.distributed.all_gather(everyone, figures)
        if not trainer.is_global_zero:
            return
        answers = predictions_of(torch.cat(everyone)[: len(batch.rows)])
        self.output.write(batch.rows, answers)
        if self._bar is not None:
            self._bar.update(
                self._bar.task_ids[0],
                description=f"{self.output.written:,} reviews, {self._rate:,.0f}/s",
                total=None if batch.done is None else 1.0,
                completed=batch.done or 0.0,
            )

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        self.output.complete()
        self._stop_bar()
        if self.progress and self.output.path is not None:
            empty = f", {self.output.unanswered:,} of them empty" if self.output.unanswered else ""
            print(
                f"{self.output.written:,} reviews{empty} -> {self.output.path} "
                f"({self._rate:,.0f}/s)",
                file=sys.stderr,
            )

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self._stop_bar()
        self.output.abandon()

    @property
    def _rate(self) -> float:
        return self.output.written / max(time.perf_counter() - self._start, 1e-9)

    def _stop_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
