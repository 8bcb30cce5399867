"""The reviews of a source as they stream by, each with its part; texts are never all in memory."""

import hashlib
from collections.abc import Iterator
from functools import cached_property

import numpy as np

from lit_imdb.data.source import Corpus, open_corpus
from lit_imdb.data.splits import TEST, TRAIN, VAL, split
from lit_imdb.data.tables import batches_of
from lit_imdb.errors import UserError

PARTS = {"train": TRAIN, "val": VAL, "test": TEST}
_BATCH = 1024


class Reviews:
    """The usable reviews of a source, numbered in its order, each with its part."""

    def __init__(
        self, source: str, val_fraction: float, text_column: str = "text", encoding: str = "utf-8"
    ) -> None:
        self.source = source
        self.val_fraction = val_fraction
        self.text_column = text_column
        self.encoding = encoding
        self.skipped = 0

    @cached_property
    def corpus(self) -> Corpus:
        return open_corpus(self.source, self.text_column, self.encoding)

    @cached_property
    def labels(self) -> np.ndarray:
        """0 or 1 (N,), int8."""
        return self._scan[0]

    @cached_property
    def parts(self) -> np.ndarray:
        """TRAIN, VAL, TEST or DROPPED (N,), int8."""
        labels, texts, is_test = self._scan
        parts = split(labels, texts, is_test, self.val_fraction)
        for name, part in PARTS.items():
            if not (parts == part).any():
                raise UserError(
                    f"{self.source}: no review is left for {name}; are all texts equal?"
                )
        return parts

    @cached_property
    def _scan(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        labels, texts, is_test = bytearray(), bytearray(), bytearray()
        for name, reviews in self.corpus.parts.items():
            for text, label in reviews():
                if text is None or not text.strip():
                    self.skipped += 1
                    continue
                labels.append(label)
                texts += hashlib.blake2b(utf8(text), digest_size=8).digest()
                is_test.append(name == "test")
        if not labels:
            raise UserError(f"{self.source}: all {self.skipped} texts are empty")
        return (
            np.frombuffer(labels, np.int8),
            np.frombuffer(texts, np.uint64),
            np.frombuffer(is_test, np.bool_),
        )

    def batches(self) -> Iterator[tuple[list[str], slice]]:
        """Texts and their row numbers, in order."""
        texts = (
            text
            for reviews in self.corpus.parts.values()
            for text, _ in reviews()
            if text is not None and text.strip()
        )
        start = 0
        for batch in batches_of(texts, _BATCH):
            yield batch, slice(start, start + len(batch))
            start += len(batch)


def utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # a lone surrogate is no reason to stop
