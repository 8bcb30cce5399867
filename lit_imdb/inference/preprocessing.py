"""What comes in front of the network, as rules that any language can follow."""

import re
from typing import Any

from lit_imdb.data.text import FILTER, PAD_ID, UNK_ID, TextEncoder
from lit_imdb.errors import UserError

RULE = (
    "Lower-case the text; apply each [pattern, replacement] of `replace` in order, as regular "
    "expressions; split at whitespace; keep the last `max_length` tokens; a token's id is its line "
    "in vocabulary.txt, counted from 0, and `unk_id` where it has none; put `pad_id` in front up "
    "to `max_length`, since the network learned with it there. The probability of a positive "
    "review is 1 / (1 + exp(-logit)). A text without tokens has no answer."
)


def preprocessing_of(encoder: TextEncoder) -> dict[str, Any]:
    """The content of `preprocessing.json`."""
    return {
        "rule": RULE,
        "tokenizer": encoder.tokenizer,
        "replace": _rules(encoder.tokenizer),
        "max_length": encoder.max_length,
        "pad_id": PAD_ID,
        "unk_id": UNK_ID,
    }


def _rules(tokenizer: str) -> list[list[str]]:
    if tokenizer == "words":
        return [["<br />", " "], [f"[{re.escape(FILTER)}]", " "]]
    if tokenizer != "basic_english":
        raise UserError(
            f"no export rules for the tokenizer {tokenizer!r}: expected words or basic_english; "
            "add its own to _rules in lit_imdb/inference/preprocessing.py"
        )
    # torchtext is pinned to its last release of this kind, so its private names stay
    from torchtext.data.utils import _patterns, _replacements

    return [list(pair) for pair in zip(_patterns, _replacements, strict=True)]
