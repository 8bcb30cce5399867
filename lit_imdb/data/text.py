"""From a review to token ids: tokenizers, the vocabulary and the encoder.

Shapes: B reviews, T tokens.

    texts (B) -> tokens -> ids -> the last T of them, zeros in front (B, T)
"""

import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lit_imdb.errors import UserError

PAD, UNK = "<pad>", "<unk>"
PAD_ID, UNK_ID = 0, 1
MAX_LENGTH = 65_536  # 256 MB for a batch of 1,024 reviews

# Keras's filter, the one that made the tutorial's data.
FILTER = '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n'


@dataclass(frozen=True)
class Tokenizer:
    """Splits a text at white space after some replacements.

    Args:
        name: Of --data.tokenizer.
        version: Raise it with each change of the rules: the cache is then prepared again.
        rules: Regular expressions and their replacements, applied in order to the lower-cased text.

    >>> TOKENIZERS["words"].split("An <br />OK film, isn't it?")
    ['an', 'ok', 'film', "isn't", 'it']
    >>> TOKENIZERS["basic_english"].split("Isn't it?")
    ['isn', "'", 't', 'it', '?']
    """

    name: str
    version: int
    rules: tuple[tuple[str, str], ...]

    def split(self, text: str, last: int = sys.maxsize) -> list[str]:
        """Return the `last` tokens of `text`, without splitting the part in front."""
        text = text.lower()
        for pattern, replacement in self.rules:
            text = re.sub(pattern, replacement, text)
        return text.rsplit(None, last)[-last:]


# Lower-case words: punctuation and HTML line breaks only separate them.
WORDS = Tokenizer("words", 1, (("<br />", " "), (f"[{re.escape(FILTER)}]", " ")))

# torchtext's: most punctuation marks become tokens of their own.
_MARKS = tuple((re.escape(mark), f" {mark} ") for mark in ".,()!?")
BASIC_ENGLISH = Tokenizer(
    "basic_english", 1, ((r"'", " '  "), (r'"', ""), (r"<br />|[;:]", " "), *_MARKS)
)

# A new tokenizer is one more entry.
TOKENIZERS = {tokenizer.name: tokenizer for tokenizer in (WORDS, BASIC_ENGLISH)}


def build_vocabulary(counter: Counter[str], size: int) -> list[str]:
    """Return `size` entries: `<pad>`, `<unk>`, then words by falling frequency."""
    from torchtext.vocab import Vocab

    # As a list, since checkpoints hold no objects of other libraries.
    entries: list[str] = Vocab(counter, max_size=size - 2, specials=[PAD, UNK]).itos
    return entries


@dataclass(frozen=True)
class TextEncoder:
    """Turns texts into ids; it travels in every checkpoint.

    Args:
        vocabulary: Tokens in the order of their ids, `<pad>` first and `<unk>` second.
        tokenizer: A name in `TOKENIZERS`.
        max_length: T, the tokens kept of each review: its last ones.
    """

    vocabulary: Sequence[str]
    tokenizer: str = "words"
    max_length: int = 80

    def __post_init__(self) -> None:
        if self.tokenizer not in TOKENIZERS:
            names = ", ".join(TOKENIZERS)
            raise UserError(f"unknown tokenizer {self.tokenizer!r}: expected one of {names}")
        if not 1 <= self.max_length <= MAX_LENGTH:
            raise UserError(f"max_length {self.max_length}: expected 1 to {MAX_LENGTH:,} tokens")

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {token: index for index, token in enumerate(self.vocabulary)}

    def tokens(self, text: str) -> list[str]:
        """Return the last T tokens of `text`: what the network reads."""
        return TOKENIZERS[self.tokenizer].split(text, self.max_length)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return ids, int32 (B, T): unknown tokens become 1, shorter reviews get zeros in front."""
        ids = np.full((len(texts), self.max_length), PAD_ID, np.int32)
        id_of = self._ids.get
        for row, text in zip(ids, texts, strict=True):
            tokens = [id_of(token, UNK_ID) for token in self.tokens(text)]
            if tokens:
                row[-len(tokens) :] = tokens
        return ids
