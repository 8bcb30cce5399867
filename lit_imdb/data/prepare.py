"""Read a source three times - to split it, to count words, to encode - and keep ids, not texts.

Memory holds a few bytes per review and one batch of texts; ids go to disk (4 T bytes per review).

Shapes: N reviews of the source, B of a batch, T tokens.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import compress
from pathlib import Path

import numpy as np

from lit_imdb.data import cache
from lit_imdb.data.loader import KEPT_BYTES, Split
from lit_imdb.data.source import Source
from lit_imdb.data.splits import DROPPED, EMPTY, SPLITS, TRAIN, assign_splits
from lit_imdb.data.tables import batches_of
from lit_imdb.data.text import TOKENIZERS, TextEncoder, build_vocabulary
from lit_imdb.errors import UserError, as_user_error

_FORMAT = 4  # of the files written here; raise it when they change
_ROW = np.dtype([("label", "i1"), ("text", "i8"), ("is_test", "?"), ("is_empty", "?")])


@dataclass(frozen=True)
class Preparation:
    """Builds vocabulary and ids of a source once, and then finds them in the cache folder `root`.

    `vocabulary` is a checkpoint's own, used instead of one built here; see `ImdbDataModule` for the
    other settings.
    """

    source: Source
    root: Path
    tokenizer: str
    vocab_size: int
    max_length: int
    val_fraction: float
    vocabulary: list[str] | None = None

    def open(self) -> tuple[list[str], dict[str, Split], dict[str, int]]:
        """Build what the cache does not have and open it.

        Returns:
            The vocabulary, the encoded reviews of each split, and how many reviews were `skipped`
            as empty and `dropped` as duplicates of a held-out text.

        Raises:
            UserError: The source cannot be read, or the cache not written.
        """
        vocabulary = self.vocabulary
        if vocabulary is None:
            key = [*self._key, self.vocab_size]
            folder = cache.build_once(self.root, key, self._write_vocabulary)
            vocabulary = json.loads((folder / "vocabulary.json").read_text())
        encoder = TextEncoder(vocabulary, self.tokenizer, self.max_length)
        key = [*self._key, self.max_length, vocabulary]
        folder = cache.build_once(self.root, key, lambda target: self._write_ids(target, encoder))
        splits = {name: Split(folder, name, self.max_length) for name in SPLITS}
        return vocabulary, splits, json.loads((folder / "counts.json").read_text())

    def batches(self) -> Iterator[tuple[tuple[str, ...], np.ndarray, np.ndarray]]:
        """Yield texts (B,), labels (B,) and splits (B,) in order."""
        splits = self._splits
        for reviews in batches_of(self.source.reviews(), 1024, lambda review: len(review[0])):
            texts, labels, _ = zip(*reviews, strict=True)
            yield texts, np.array(labels, np.int8), splits[: len(texts)]
            splits = splits[len(texts) :]

    @cached_property
    def _splits(self) -> np.ndarray:
        """The split of each review (N,)."""
        name = " ".join(self.source.name.split())
        print(f"preparing the reviews ({name}), once", file=sys.stderr, flush=True)
        found = (
            (label, hash(text), is_test, not text.strip())
            for text, label, is_test in self.source.reviews()
        )
        rows = np.fromiter(found, _ROW)
        splits = np.full(len(rows), EMPTY, np.int8)
        full = ~rows["is_empty"]
        label, text, is_test = (rows[name][full] for name in ("label", "text", "is_test"))
        with as_user_error(self.source.name, UserError):
            splits[full] = assign_splits(label, text, is_test, self.val_fraction)
        return splits

    @cached_property
    def _key(self) -> list[object]:
        """What splits and tokens depend on."""
        reviews = [self.source.name, self.source.fingerprint(), self.val_fraction]
        return [_FORMAT, *reviews, self.tokenizer, TOKENIZERS[self.tokenizer].version]

    def _write_vocabulary(self, folder: Path) -> None:
        counter: Counter[str] = Counter()
        for texts, _, splits in self.batches():
            for text in compress(texts, splits == TRAIN):
                counter.update(TOKENIZERS[self.tokenizer].split(text))
        vocabulary = build_vocabulary(counter, self.vocab_size)
        (folder / "vocabulary.json").write_text(json.dumps(vocabulary))

    def _write_ids(self, folder: Path, encoder: TextEncoder) -> None:
        """Encode every review; held-out ones also leave the end of their text."""
        for texts, labels, splits in self.batches():
            ids = encoder.encode(texts)  # (B, T)
            ends = [text.encode(errors="replace")[-KEPT_BYTES:] for text in texts]
            columns = {"ids": ids, "labels": labels, "texts": np.array(ends, f"S{KEPT_BYTES}")}
            for name, number in SPLITS.items():
                for column, values in columns.items():
                    if (name, column) != ("train", "texts"):
                        with (folder / f"{name}.{column}").open("ab") as file:
                            file.write(values[splits == number].tobytes())
        every = self._splits
        counts = {"skipped": (every == EMPTY).sum(), "dropped": (every == DROPPED).sum()}
        (folder / "counts.json").write_text(json.dumps(counts, default=int))
