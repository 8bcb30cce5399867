"""Which words move the logit, as Markdown and HTML.

Shapes: B reviews, T tokens.
"""

import html
from collections.abc import Sequence

from torch import Tensor

from lit_imdb.data.text import PAD_ID, TextEncoder
from lit_imdb.report.tables import LINE, clean, markdown_word

Influences = list[tuple[str, float]]
_NAMED = 6  # words of a review whose influence a Markdown cell tells


def words_of(encoder: TextEncoder, text: str, ids: Tensor, influence: Tensor) -> Influences:
    """Every word that the network reads of a review, with its influence.

    Words come from the text, since an id cannot say which unknown word it stands for; `text` may be
    shorter than what was read, and then the vocabulary fills in.
    """
    read = [encoder.vocabulary[i] for i in ids.tolist() if i != PAD_ID]
    tokens = encoder.tokens(text)[-len(read) :] if read else []
    words = [*read[: len(read) - len(tokens)], *tokens]
    return list(zip(words, influence[len(influence) - len(words) :].tolist(), strict=True))


def markdown_words(words: Influences) -> str:
    """The words, the strongest in bold with their influence: TensorBoard takes colours out."""
    strongest = sorted((abs(value) for _, value in words), reverse=True)[:_NAMED]
    least = strongest[-1] if strongest else 0.0
    cell, width = "", 0
    for word, value in words:
        shown = markdown_word(word)
        if abs(value) >= least:
            shown = f"**{shown}** ({value:+.2f})"
        width += len(shown) + 1
        cell += f"{shown} "
        if width > LINE:
            cell, width = f"{cell}<br>", 0
    return cell


def html_words(words: Sequence[tuple[str, float]]) -> str:
    """The words, coloured: blue speaks for positive, orange for negative."""
    most = max((abs(value) for _, value in words), default=0.0) or 1.0
    return " ".join(
        f'<span class="{"for" if value > 0 else "against"}" '
        f'style="--strength:{abs(value) / most:.2f}" title="{value:+.3f}">'
        f"<bdi>{html.escape(clean(word))}</bdi></span>"
        for word, value in words
    )
