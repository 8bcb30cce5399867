"""From a review to token ids: tokenizers, the vocabulary and the encoder.

Shapes: B reviews, T tokens.

    texts (B) -> tokens -> ids -> the last T of them, zeros in front (B, T)
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from lit_imdb.errors import UserError

PAD, UNK = "<pad>", "<unk>"
PAD_ID, UNK_ID = 0, 1
MAX_LENGTH = 65_536  # 128 MB for a batch of 1,024 reviews

# Keras's filter, the one that made the tutorial's data.
FILTER = '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n'
_TO_SPACE = str.maketrans(FILTER, " " * len(FILTER))


def words(text: str) -> list[str]:
    """Lower-case words; punctuation and HTML line breaks only separate them.

    >>> words("An <br />OK film, isn't it?")
    ['an', 'ok', 'film', "isn't", 'it']
    """
    return _plain(text).split()


def last_words(text: str, count: int) -> list[str]:
    """`words(text)[-count:]`, without splitting the part in front (three times as fast).

    >>> last_words("Not a bad film.", 2)
    ['bad', 'film']
    """
    return _plain(text).rsplit(None, count)[-count:]


def basic_english(text: str) -> list[str]:
    """torchtext's `basic_english`: lower-case, and punctuation marks are tokens of their own."""
    from torchtext.data.utils import get_tokenizer  # one second to import: only for who asks

    tokens: list[str] = get_tokenizer("basic_english")(text)
    return tokens


def _plain(text: str) -> str:
    return text.lower().replace("<br />", " ").translate(_TO_SPACE)


# One more also goes into the Literal in datamodule.py and `_rules` in export/preprocessing.py.
# The cache knows each by its name: raise `_FORMAT` in prepare.py when the code of one changes.
TOKENIZERS: dict[str, Callable[[str], list[str]]] = {
    "words": words,
    "basic_english": basic_english,
}


def count_tokens(texts: Iterable[str], tokenizer: str, counter: Counter[str]) -> None:
    """Adds to `counter` how often each token occurs in `texts`."""
    tokenize = TOKENIZERS[tokenizer]
    for text in texts:
        counter.update(tokenize(text))


def build_vocabulary(counter: Counter[str], size: int) -> list[str]:
    """The `size` entries of the vocabulary: `<pad>`, `<unk>`, then words by falling frequency.

    Plain words, since checkpoints hold no objects of other libraries, such as torchtext's `Vocab`.
    """
    from torchtext.vocab import Vocab

    entries: list[str] = Vocab(counter, max_size=size - 2, specials=[PAD, UNK]).itos
    return entries


@dataclass(frozen=True)
class TextEncoder:
    """Everything that turns a text into ids: it travels in every checkpoint.

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
    def id_of(self) -> dict[str, int]:
        return {token: index for index, token in enumerate(self.vocabulary)}

    @property
    def dtype(self) -> Any:
        """The smallest integer type that holds every id."""
        return np.int16 if len(self.vocabulary) <= np.iinfo(np.int16).max else np.int32

    def tokens(self, text: str) -> list[str]:
        """The last T tokens of `text`: what the network reads."""
        if self.tokenizer == "words":
            return last_words(text, self.max_length)
        return TOKENIZERS[self.tokenizer](text)[-self.max_length :]

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Ids (B, T): unknown tokens become 1, shorter reviews get zeros in front."""
        ids = np.full((len(texts), self.max_length), PAD_ID, dtype=self.dtype)  # (B, T)
        id_of = self.id_of.get
        for row, text in zip(ids, texts, strict=True):
            tokens = [id_of(token, UNK_ID) for token in self.tokens(text)]
            if tokens:
                row[-len(tokens) :] = tokens
        return ids
