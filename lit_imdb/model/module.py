"""The LightningModule: loss, metrics and optimizer around `SentimentRNN`.

Shapes: B reviews, T tokens.
"""

import inspect
import math
from collections.abc import Callable
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torchmetrics import MeanMetric
from torchmetrics.classification import BinaryAccuracy

from lit_imdb.data.loader import Batch
from lit_imdb.errors import UserError
from lit_imdb.model.engines import engine_for, step_threads
from lit_imdb.model.graphs import Graphs
from lit_imdb.model.network import SentimentRNN, check_setting, evaluator_of
from lit_imdb.model.recipe import drop_words, loss_at_every_word
from lit_imdb.model.recurrence import padding_of


class LitSentiment(LightningModule):
    """Trains, validates and tests the tutorial's network.

    Args:
        lr: Adam's learning rate.
        word_dropout: Share of the words that training replaces by `<unk>`.
        word_loss: Weight of the loss at every word, beside that of the last state.
        network: Settings of `SentimentRNN`.

    Raises:
        UserError: A learning rate not above 0, or a setting out of range.
    """

    def __init__(
        self,
        lr: float = 1e-3,
        word_dropout: float = 0.0,
        word_loss: float = 0.0,
        **network: Any,
    ) -> None:
        super().__init__()
        check_setting("lr", lr, lr > 0, "more than 0")
        check_setting("word_dropout", word_dropout, 0 <= word_dropout < 1, "0 to below 1")
        check_setting("word_loss", word_loss, word_loss >= 0, "at least 0")
        self.lr, self.word_dropout, self.word_loss = lr, word_dropout, word_loss
        self.net = self.make_network(**network)
        self.save_hyperparameters({**_defaults(SentimentRNN), **_defaults(type(self.net))})
        self.save_hyperparameters()  # those given, to subclasses too
        self.graphs = Graphs()  # for training
        self._evaluator: Callable[[Tensor], Tensor] = self.net.forward  # for evaluation
        # sums of loss and right answers, and reviews: in checkpoints, so a resumed curve continues
        self.since_log_line: list[Tensor | float] = [0.0, 0.0, 0.0]
        self.mean_loss, self.accuracy = MeanMetric(), BinaryAccuracy()  # of an evaluation
        self.fuses_adam = True
        self.logs_now = False  # whether this training step has a log line
        self.seed = torch.initial_seed() % 2**32  # of the dropout masks; checkpoints have it
        self.evaluated: list[tuple[Tensor, Tensor]] = []  # logits and labels of each batch

    def make_network(self, **network: Any) -> SentimentRNN:
        """Return the network: override it for one of your own."""
        return SentimentRNN(**network)

    def forward(self, ids: Tensor) -> Tensor:
        """Return logits (B,) of token ids (B, T)."""
        return self.net(ids)

    def setup(self, stage: str) -> None:
        # Lightning cannot clip the gradients that a fused optimizer unscales itself
        clips, precision = self.trainer.gradient_clip_val, self.trainer.precision
        self.fuses_adam = not (clips and precision.endswith("mixed"))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        ids, labels = batch  # (B, T), (B,)
        generator = self._mask_generator()
        masks = self.net.draw_masks(len(ids), generator)
        if self.word_dropout:
            ids = drop_words(ids, self.word_dropout, generator)
        # (B,), or at every word (B, T)
        logits = self.graphs(self.net, ids, masks, at_every_word=bool(self.word_loss))
        last = logits[:, -1] if self.word_loss else logits  # (B,)
        labels = labels.to(last.dtype)
        loss = binary_cross_entropy_with_logits(last, labels)
        self._count(loss.detach(), last, labels)
        self.logs_now = self._is_log_step(batch_idx)
        if self.logs_now:
            self._log_training()
        if self.word_loss:
            loss = loss + self.word_loss * loss_at_every_word(logits, labels, padding_of(ids))
        return loss

    def on_validation_epoch_start(self) -> None:
        # not in on_validation_start: callbacks that average weights put theirs in first
        self._evaluator = evaluator_of(self.net)
        self.evaluated.clear()

    on_test_epoch_start = on_predict_epoch_start = on_validation_epoch_start

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return logits (B,)."""
        ids, labels = batch  # (B, T), (B,)
        logits = self._evaluate(ids)  # (B,)
        self.evaluated.append((logits, labels))
        return logits

    test_step = validation_step

    def on_validation_epoch_end(self) -> None:
        self._log_evaluation("val")

    def on_test_epoch_end(self) -> None:
        self._log_evaluation("test")

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return probabilities (B,) of a positive review."""
        return torch.sigmoid(self._evaluate(batch[0]))

    def configure_optimizers(self) -> Any:
        # eps is Keras's 1e-7
        return torch.optim.Adam(self.parameters(), lr=self.lr, eps=1e-7, fused=self.fuses_adam)

    def optimizer_step(self, *arguments: Any, **named: Any) -> None:
        # the whole step, forward and backward: `fused` has threads of its own
        with step_threads(engine_for(self.net.engine, self.net.cells)):
            super().optimizer_step(*arguments, **named)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # no NaN may replace a good checkpoint; a sum of weights shows it
        sums = [float(w.detach().sum(dtype=torch.float32)) for w in self.parameters()]
        since_log_line = [float(each) for each in self.since_log_line]
        self._expect_finite([*sums, *since_log_line])
        checkpoint["training"] = {"seed": self.seed, "since_log_line": since_log_line}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.seed = checkpoint["training"]["seed"]
        self.since_log_line = checkpoint["training"]["since_log_line"]
        saved = checkpoint.get("hyper_parameters", {}).get("lr", self.lr)
        # a subclass or the command line may have brought another optimizer
        function = getattr(self.configure_optimizers, "__func__", None)
        if self.lr == saved or function is not LitSentiment.configure_optimizers:
            return
        for state in checkpoint.get("optimizer_states", []):
            for group in state["param_groups"]:
                group["lr"] = self.lr  # a resumed run may have been given another

    def _evaluate(self, ids: Tensor) -> Tensor:
        with step_threads(engine_for(self.net.engine, self.net.cells)):
            return self._evaluator(ids)

    def _count(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add a batch's mean loss and its answers to the sums since the last log line."""
        wide = torch.float32 if loss.device.type == "mps" else torch.float64  # MPS has no float64
        total, right, reviews = self.since_log_line
        total = total + loss.to(wide) * len(labels)
        right = right + ((logits > 0) == (labels > 0)).sum()
        self.since_log_line = [total, right, reviews + len(labels)]

    # torch.compile cannot trace Lightning's log
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _log_training(self) -> None:
        loss, right, reviews = map(float, self.since_log_line)
        self._expect_finite([loss])
        self.log_dict({"train/loss": loss / reviews, "train/acc": right / reviews}, prog_bar=True)
        self.since_log_line = [0.0, 0.0, 0.0]

    def _log_evaluation(self, split: str) -> None:
        # batch by batch: a sum over all would depend on the number of threads in its last digit
        sums = [
            binary_cross_entropy_with_logits(logits, labels.to(logits.dtype), reduction="sum")
            for logits, labels in self.evaluated
        ]
        logits, labels = map(torch.cat, zip(*self.evaluated, strict=True))
        self.mean_loss.update(torch.stack(sums).sum() / len(labels), weight=len(labels))
        # as classes: BinaryAccuracy would take logits that all lie in [0, 1] for probabilities
        self.accuracy.update((logits > 0).long(), labels.long())
        self.log(f"{split}/loss", self.mean_loss)
        self.log(f"{split}/acc", self.accuracy, prog_bar=split == "val")

    def _mask_generator(self) -> torch.Generator:
        """Return random numbers that depend on (seed, batch, process) alone: a run can resume."""
        batch = self.trainer.fit_loop.total_batch_idx  # counted over all epochs
        number = batch * self.trainer.world_size + self.global_rank
        return torch.Generator(self.device).manual_seed(self.seed * 1_000_003 + number)

    def _is_log_step(self, batch_idx: int) -> bool:
        """Return whether Lightning writes what this batch logs: the last of accumulated ones."""
        interval: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        due = bool(interval) and (self.global_step + 1) % interval == 0
        whole = (batch_idx + 1) % self.trainer.accumulate_grad_batches == 0
        return due and (whole or self.trainer.is_last_batch)

    def _expect_finite(self, values: list[float]) -> None:
        """Raise `UserError` if the loss or a sum of weights is NaN or infinite."""
        if not all(math.isfinite(value) for value in values):
            raise UserError(
                f"the loss is NaN or infinite at step {self.global_step}: lower --model.lr, now "
                f"{self.lr:g}; the checkpoints written before are good"
            )


def _defaults(network: type[SentimentRNN]) -> dict[str, Any]:
    parameters = inspect.signature(network).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}
