"""Read a source three times - to split it, to count words, to encode - and keep ids, not texts.

Memory holds 18 bytes per review and one batch of texts; ids go to disk (2 T bytes per review).

Shapes: N reviews of the source, B of a batch, T tokens.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from itertools import compress
from pathlib import Path

import numpy as np

from lit_imdb.data import cache
from lit_imdb.data.encoded import Part
from lit_imdb.data.source import Review, Source
from lit_imdb.data.splits import DROPPED, SPLITS, TRAIN, split
from lit_imdb.data.tables import batches_of
from lit_imdb.data.text import TOKENIZERS, TextEncoder, build_vocabulary
from lit_imdb.errors import UserError

SHOWN_CHARACTERS = 1000  # kept of each held-out text, its end: what a table shows of it
_FORMAT = 2  # of the files written here; raise it when they change
_BATCH = 1024


@dataclass(frozen=True)
class Preparation:
    """Builds vocabulary and ids of a source once, and then finds them in the cache.

    Args:
        source: Where the reviews come from.
        root: The cache folder.
        tokenizer: A name in `TOKENIZERS`.
        vocab_size: V, for a vocabulary built here.
        max_length: T.
        val_fraction: Share of the training reviews that validates.
        vocabulary: A checkpoint's own, used instead of one built here.
    """

    source: Source
    root: Path
    tokenizer: str
    vocab_size: int
    max_length: int
    val_fraction: float
    vocabulary: list[str] | None = None

    def is_done(self) -> bool:
        """Return whether everything is in the cache."""
        if self.vocabulary is None and cache.damage_in(self._vocabulary_folder) is not None:
            return False
        return cache.damage_in(self._ids_folder(self._encoder())) is None

    def open(self) -> tuple[TextEncoder, dict[str, Part], dict[str, int]]:
        """Build what the cache does not have and open it.

        Returns:
            What encoded the reviews, the encoded reviews of each split, and how many reviews were
            `skipped` as empty and `dropped` as duplicates of a held-out text.

        Raises:
            UserError: The source cannot be read, or the cache not written.
        """
        if self.vocabulary is None:
            cache.build_once(self._vocabulary_folder, self._write_vocabulary)
        encoder = self._encoder()
        folder = self._ids_folder(encoder)
        cache.build_once(folder, lambda target: self._write_ids(target, encoder))
        parts = {name: Part(folder, name, encoder) for name in SPLITS}
        return encoder, parts, json.loads((folder / "counts.json").read_text())

    def batches(self) -> Iterator[tuple[list[str], slice]]:
        """Yield the texts that are not empty, in order, with their row numbers among the N."""
        texts = (
            text
            for reviews in self._parts.values()
            for text, _ in reviews()
            if text is not None and text.strip()
        )
        start = 0
        for batch in batches_of(texts, _BATCH):
            yield batch, slice(start, start + len(batch))
            start += len(batch)

    @cached_property
    def rows(self) -> tuple[np.ndarray, np.ndarray, int]:
        """Labels (N,) and splits (N,) of the reviews, and how many empty ones there are beside."""
        labels, texts, is_test, skipped = bytearray(), bytearray(), bytearray(), 0
        for part, reviews in self._parts.items():
            for text, label in reviews():
                if text is None or not text.strip():
                    skipped += 1
                    continue
                labels.append(label)
                texts += hashlib.blake2b(_utf8(text), digest_size=8).digest()
                is_test.append(part == "test")
        if not labels:
            raise UserError(f"{self.source.name}: all {skipped} texts are empty")
        found = np.frombuffer(labels, np.int8)
        hashes, marks = np.frombuffer(texts, np.uint64), np.frombuffer(is_test, np.bool_)
        try:
            return found, split(found, hashes, marks, self.val_fraction), skipped
        except UserError as error:
            raise UserError(f"{self.source.name}: {error}") from error

    @cached_property
    def _parts(self) -> dict[str, Callable[[], Iterator[Review]]]:
        return self.source.parts()

    @cached_property
    def _key(self) -> list[object]:
        """What splits and tokens depend on."""
        reviews = [self.source.name, self.source.fingerprint(), self.val_fraction]
        return [_FORMAT, *reviews, self.tokenizer, TOKENIZERS[self.tokenizer].version]

    @property
    def _vocabulary_folder(self) -> Path:
        return cache.folder_of(self.root, [*self._key, self.vocab_size])

    def _ids_folder(self, encoder: TextEncoder) -> Path:
        vocabulary = hashlib.sha256(_utf8("\n".join(encoder.vocabulary))).hexdigest()
        return cache.folder_of(self.root, [*self._key, encoder.max_length, vocabulary])

    def _encoder(self) -> TextEncoder:
        vocabulary = self.vocabulary
        if vocabulary is None:
            vocabulary = json.loads((self._vocabulary_folder / "vocabulary.json").read_text())
        return TextEncoder(vocabulary, self.tokenizer, self.max_length)

    def _write_vocabulary(self, folder: Path) -> None:
        _, splits, _ = self.rows
        counter: Counter[str] = Counter()
        for texts, rows in self.batches():
            for text in compress(texts, splits[rows] == TRAIN):
                counter.update(TOKENIZERS[self.tokenizer].split(text))
        vocabulary = build_vocabulary(counter, self.vocab_size)
        (folder / "vocabulary.json").write_text(json.dumps(vocabulary))

    def _write_ids(self, folder: Path, encoder: TextEncoder) -> None:
        """Encode every review; held-out ones also leave the end of their text."""
        labels, splits, skipped = self.rows
        names = ("train.ids", "val.ids", "test.ids", "val.texts", "test.texts")
        ends = {name: [0] for name in SPLITS}
        with ExitStack() as stack:
            files = {name: stack.enter_context((folder / name).open("wb")) for name in names}
            for texts, rows in self.batches():
                ids = encoder.encode(texts)  # (B, T)
                for name, number in SPLITS.items():
                    chosen = np.flatnonzero(splits[rows] == number)
                    ids[chosen].tofile(files[f"{name}.ids"])
                    for row in chosen if name != "train" else ():
                        shown = files[f"{name}.texts"]
                        shown.write(_utf8(texts[row][-SHOWN_CHARACTERS:]))
                        ends[name].append(shown.tell())
        for name, number in SPLITS.items():
            np.save(folder / f"{name}.labels.npy", labels[splits == number])
            np.save(folder / f"{name}.ends.npy", np.array(ends[name], np.int64))
        counts = {"skipped": skipped, "dropped": int((splits == DROPPED).sum())}
        (folder / "counts.json").write_text(json.dumps(counts))


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # a lone surrogate is no reason to stop
