"""The LightningModule: loss, metrics and optimizer around `SentimentRNN`.

Shapes: B reviews, T tokens.
"""

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torchmetrics import MeanMetric
from torchmetrics.classification import BinaryAccuracy

from lit_imdb.data.loader import Batch
from lit_imdb.errors import UserError
from lit_imdb.memory import without_collection
from lit_imdb.model import unprofiled
from lit_imdb.model.folded import fold
from lit_imdb.model.network import SentimentRNN
from lit_imdb.model.recurrence import Engine, engine_for, fused, threads_of
from lit_imdb.model.window import Window


class LitSentiment(LightningModule):
    """Trains, validates and tests the tutorial's network.

    Args:
        vocab_size: V, rows of the embedding; the command line takes it from the data.
        embedding_dim: E, numbers per word.
        hidden_dim: H, units of both recurrent cells.
        dropout: Share of each cell's input that is zeroed in training.
        lr: Adam's learning rate.
        engine: How the cells are unrolled: `reference` is the plain loop, `fused` the fast one for
            CPUs, `cudnn` for NVIDIA, `auto` the fastest for the device.

    Raises:
        UserError: A size below 1, dropout outside [0, 1) or a learning rate not above 0.
    """

    def __init__(
        self,
        vocab_size: int = 10_000,
        embedding_dim: int = 100,
        hidden_dim: int = 64,
        dropout: float = 0.2,
        lr: float = 1e-3,
        engine: Literal["auto", "reference", "fused", "cudnn"] = "auto",
    ) -> None:
        super().__init__()
        if lr <= 0:
            raise UserError(f"--model.lr {lr}: expected more than 0")
        self.save_hyperparameters()
        self.lr = lr
        self.net = SentimentRNN(vocab_size, embedding_dim, hidden_dim, dropout, engine)
        self._folded: Callable[[Tensor], Tensor] = self.net.forward
        self.val_loss, self.val_acc = MeanMetric(), BinaryAccuracy()
        self.test_loss, self.test_acc = MeanMetric(), BinaryAccuracy()
        self.seed = torch.initial_seed() % 2**32  # of the dropout masks; travels in checkpoints
        self._generator: torch.Generator | None = None
        self._engine: Engine | None = None  # of the training that is going on
        self._window = Window()  # since the last line in the log
        self.last_line: dict[str, float] = {}  # in the log: epoch (from 0), loss, acc
        self.logs_now = False  # whether this training step has a line in the log
        # of the evaluation that is going on: logits and labels of each batch
        self._evaluated: list[tuple[Tensor, Tensor]] = []

    def forward(self, ids: Tensor) -> Tensor:
        """Logits (B,) of token ids (B, T)."""
        logits: Tensor = self.net(ids)
        return logits

    def on_train_start(self) -> None:
        self._engine = self._engine_now()  # once: 40 us
        if self._engine is fused:
            # loads the compiled loops, 0.3 s, or compiles them: before the first epoch, not in it
            with without_collection():
                word = torch.zeros(1, 1, dtype=torch.int32)
                logit = self.net(word, [None] * len(self.net.cells))
                trained = [p for p in self.net.parameters() if p.requires_grad]
                torch.autograd.grad(logit, trained, allow_unused=True)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        ids, labels = batch  # (B, T), (B,)
        logits = self.net(ids, self.net.draw_masks(len(ids), self._step_generator()))  # (B,)
        loss = binary_cross_entropy_with_logits(logits, labels)
        self._window.add(loss, logits, labels)
        self._log_training(batch_idx)
        return loss

    def on_validation_epoch_start(self) -> None:
        # not at its start: callbacks that average weights put theirs in first
        self._folded = fold(self.net)
        self._evaluated.clear()

    on_test_epoch_start = on_predict_epoch_start = on_validation_epoch_start

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Logits (B,)."""
        return self._evaluate(batch)

    def on_validation_epoch_end(self) -> None:
        self._log_evaluation("val", self.val_loss, self.val_acc)

    def test_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Logits (B,)."""
        return self._evaluate(batch)

    def on_test_epoch_end(self) -> None:
        self._log_evaluation("test", self.test_loss, self.test_acc)

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Probabilities (B,) of a positive review."""
        return torch.sigmoid(self._folded(batch[0]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        # eps is Keras's 1e-7
        return torch.optim.Adam(self.parameters(), lr=self.lr, eps=1e-7, fused=True)

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: torch.optim.Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        # the closure is the whole step, forward and backward: `fused` shares it among its threads
        with threads_of(self._engine or self._engine_now()):
            unprofiled.step(optimizer, optimizer_closure)

    def optimizer_zero_grad(
        self, epoch: int, batch_idx: int, optimizer: torch.optim.Optimizer
    ) -> None:
        unprofiled.zero_grad(optimizer)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        window = self._window.sums
        # before anything is written over a good checkpoint; a sum keeps what is not finite, in a
        # fifth of the time of a look at each element
        sums = [float(w.detach().sum(dtype=torch.float32)) for w in self.parameters()]
        self._expect_finite([*sums, window[0]])
        checkpoint["training"] = {"seed": self.seed, "window": window, "line": self.last_line}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.seed = checkpoint["training"]["seed"]
        self._window = Window(checkpoint["training"]["window"])
        self.last_line = checkpoint["training"]["line"]
        for state in checkpoint["optimizer_states"]:
            for group in state["param_groups"]:
                group["lr"] = self.lr  # the command line's

    def _evaluate(self, batch: Batch) -> Tensor:
        ids, labels = batch  # (B, T), (B,)
        logits = self._folded(ids)  # (B,)
        self._evaluated.append((logits, labels))
        return logits

    def _log_evaluation(self, part: str, loss: MeanMetric, accuracy: BinaryAccuracy) -> None:
        """Once for all batches: at each, metrics and log took as long again as the network."""
        # batch by batch: a sum over all would depend on the number of threads in its last digit
        sums = [
            binary_cross_entropy_with_logits(logits, labels, reduction="sum")
            for logits, labels in self._evaluated
        ]
        logits, labels = map(torch.cat, zip(*self._evaluated, strict=True))
        loss.update(torch.stack(sums).sum() / len(labels), weight=len(labels))
        # as classes: BinaryAccuracy would take logits that all lie in [0, 1] for probabilities
        accuracy.update((logits > 0).long(), labels.long())
        self.log(f"{part}/loss", loss)
        self.log(f"{part}/acc", accuracy, prog_bar=part == "val")

    def _engine_now(self) -> Engine:
        return engine_for(self.net.engine, self.device, self.net.cells)

    def _step_generator(self) -> torch.Generator:
        """Random numbers that are a function of (seed, batch, process): a run can resume."""
        if self._generator is None:
            self._generator = torch.Generator(self.device)
        # of the whole run; the same as the step where gradients are not accumulated
        batch = self.trainer.fit_loop.total_batch_idx
        number = batch * self.trainer.world_size + self.global_rank
        return self._generator.manual_seed(self.seed * 1_000_003 + number)

    def _log_training(self, batch_idx: int) -> None:
        """Mean loss and accuracy since the last line in the log: a line costs 2 ms."""
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        due = bool(every) and (self.global_step + 1) % every == 0
        self.logs_now = due and self._ends_step(batch_idx)
        if self.logs_now:
            loss, acc = self._window.means
            self._expect_finite([loss])
            self.log("train/loss", loss, prog_bar=True)
            self.log("train/acc", acc, prog_bar=True)
            self.last_line = {"epoch": self.current_epoch, "loss": loss, "acc": acc}
            self._window = Window()

    def _ends_step(self, batch_idx: int) -> bool:
        """Whether this is the last of the accumulated batches: Lightning writes what it logs."""
        whole = (batch_idx + 1) % self.trainer.accumulate_grad_batches == 0
        return whole or self.trainer.is_last_batch

    def _expect_finite(self, figures: list[float]) -> None:
        """Raises `UserError` where the loss or a sum of weights is NaN or infinite."""
        if not all(math.isfinite(figure) for figure in figures):
            raise UserError(
                f"the loss is NaN or infinite at step {self.global_step}: lower --model.lr, now "
                f"{self.lr:g}; the checkpoints written before are good"
            )
