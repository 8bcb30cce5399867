"""Reads a corpus three times - to split, to count words, to encode - and keeps ids, not texts.

Memory holds 18 bytes a review and one batch of texts; ids go to disk (2 T bytes a review).
Reading again costs less than storing texts in between: 0.2 s for 25,000 reviews.

Shapes: B reviews, T tokens.
"""

import hashlib
import json
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np

from lit_imdb.data import cache
from lit_imdb.data.encoded import Encoded
from lit_imdb.data.reviews import PARTS, Reviews, utf8
from lit_imdb.data.source import fingerprint_of
from lit_imdb.data.splits import DROPPED, TRAIN
from lit_imdb.data.text import TextEncoder, build_vocabulary, count_tokens

SHOWN_CHARACTERS = 1000  # kept of each held-out text, its end: what a table shows of it
_FORMAT = 1  # raise it with every change of what is written or of how texts are split


@dataclass(frozen=True)
class Preparation:
    """Vocabulary and ids of a source, each built once and then found in the cache.

    Args:
        root: The cache folder.
        source: `hub`, `package` or a path.
        tokenizer: A name in `TOKENIZERS`.
        vocab_size: V, for a vocabulary built here.
        max_length: T.
        val_fraction: Share of the training part that validates.
        vocabulary: A checkpoint's own, used instead of one built here.
        text_column: The column of a user's own tables that holds the review.
        encoding: Of a user's own text files.
    """

    root: Path
    source: str
    tokenizer: str
    vocab_size: int
    max_length: int
    val_fraction: float
    vocabulary: list[str] | None = None
    text_column: str = "text"
    encoding: str = "utf-8"

    def is_done(self) -> bool:
        """Whether `open` would find everything in the cache."""
        if self.vocabulary is None and not cache.is_complete(self._vocabulary_folder):
            return False
        return cache.is_complete(self._ids_folder(self._encoder()))

    def open(self) -> Encoded:
        """The encoded reviews; builds what the cache does not have.

        Raises:
            UserError: The source cannot be read, or the cache not written.
        """
        if self.vocabulary is None:
            cache.open_or_build(self._vocabulary_folder, self._write_vocabulary)
        encoder = self._encoder()
        folder = self._ids_folder(encoder)
        cache.open_or_build(folder, lambda target: self._write_ids(target, encoder))
        return Encoded(folder, encoder)

    def _encoder(self) -> TextEncoder:
        vocabulary = self.vocabulary
        if vocabulary is None:
            vocabulary = json.loads((self._vocabulary_folder / "vocabulary.json").read_text())
        return TextEncoder(vocabulary, self.tokenizer, self.max_length)

    @cached_property
    def _reviews(self) -> Reviews:
        return Reviews(self.source, self.val_fraction, self.text_column, self.encoding)

    @cached_property
    def _split_key(self) -> list[object]:
        fingerprint = fingerprint_of(self.source, self.text_column, self.encoding)
        return [_FORMAT, self.source, fingerprint, self.val_fraction]

    @property
    def _vocabulary_folder(self) -> Path:
        return cache.folder_of(self.root, [*self._split_key, self.tokenizer, self.vocab_size])

    def _ids_folder(self, encoder: TextEncoder) -> Path:
        vocabulary = hashlib.sha256(utf8("\n".join(encoder.vocabulary))).hexdigest()
        text = [encoder.tokenizer, encoder.max_length, vocabulary]
        return cache.folder_of(self.root, [*self._split_key, *text])

    def _write_vocabulary(self, folder: Path) -> None:
        counter: Counter[str] = Counter()
        for texts, rows in self._reviews.batches():
            training = self._reviews.parts[rows] == TRAIN
            chosen = (text for text, wanted in zip(texts, training, strict=True) if wanted)
            count_tokens(chosen, self.tokenizer, counter)
        vocabulary = build_vocabulary(counter, self.vocab_size)
        (folder / "vocabulary.json").write_text(json.dumps(vocabulary))

    def _write_ids(self, folder: Path, encoder: TextEncoder) -> None:
        """Encodes every review; held-out ones also leave the end of their text."""
        reviews = self._reviews
        ends: dict[str, list[int]] = {part: [0] for part in PARTS}
        with ExitStack() as stack:

            def create(part: str, ending: str) -> BinaryIO:
                return stack.enter_context((folder / f"{part}.{ending}").open("wb"))

            ids = {part: create(part, "ids") for part in PARTS}
            shown = {part: create(part, "texts") for part in ("val", "test")}
            for texts, rows in reviews.batches():
                encoded = encoder.encode(texts)  # (B, T)
                for part, number in PARTS.items():
                    chosen = np.flatnonzero(reviews.parts[rows] == number)
                    encoded[chosen].tofile(ids[part])
                    for row in chosen.tolist() if part in shown else ():
                        size = shown[part].write(utf8(texts[row][-SHOWN_CHARACTERS:]))
                        ends[part].append(ends[part][-1] + size)
        for part, number in PARTS.items():
            np.save(folder / f"{part}.labels.npy", reviews.labels[reviews.parts == number])
            np.save(folder / f"{part}.ends.npy", np.array(ends[part], np.int64))
        counts = {"skipped": reviews.skipped, "dropped": int((reviews.parts == DROPPED).sum())}
        (folder / "counts.json").write_text(json.dumps(counts))
