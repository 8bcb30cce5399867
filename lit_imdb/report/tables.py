"""Tables of texts that anybody may have written: nothing in them becomes markup.

TensorBoard shows Markdown and removes most HTML; `report.html` shows HTML.
"""

import html
import re
import textwrap
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

SHOWN = 300  # characters of a text: its end, which is what the network reads
_PLAIN = re.compile(r"[^\w\s.,;:?'/%=+()-]|_", re.ASCII)

Words = list[tuple[str, float]]  # each with its influence: above 0 it speaks for positive


@dataclass(frozen=True)
class Table:
    """Rows of texts, and of words that are marked by their influence."""

    header: Sequence[str]
    rows: Sequence[Sequence[str | Words]]

    def markdown(self) -> str:
        lines = [list(self.header), ["---"] * len(self.header)]
        lines += [[_markdown_cell(cell) for cell in row] for row in self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def html(self) -> str:
        lines = [[f"<th>{html.escape(name)}</th>" for name in self.header]]
        lines += [[f"<td>{_html_cell(cell)}</td>" for cell in row] for row in self.rows]
        rows = "\n".join(f"<tr>{''.join(line)}</tr>" for line in lines)
        return f"<table>\n{rows}\n</table>"


def clean(text: str) -> str:
    """Return the end of `text` on one line, without control characters.

    Format characters go too: a right-to-left override would reverse what follows it.

    >>> clean("An\\n\\x00odd <br />film\\u202e")
    'An odd film'
    """
    text = text[-2 * SHOWN :].replace("<br />", " ")
    kept = "".join(" " if unicodedata.category(char)[0] in "CZ" else char for char in text)
    kept = " ".join(kept.split())
    return kept if len(kept) <= SHOWN else f"\u2026{kept[-SHOWN:]}"


def _markdown_cell(cell: str | Words) -> str:
    """Return lines: one long line would break the columns beside it in TensorBoard."""
    if isinstance(cell, str):
        return "<br>".join(_markdown(line) for line in textwrap.wrap(clean(cell), 70))
    strongest = sorted(cell, key=lambda word: abs(word[1]))[-6:]
    marked = [  # TensorBoard removes colours
        f"**{_markdown(clean(word))}** ({influence:+.2f})"
        if (word, influence) in strongest
        else _markdown(clean(word))
        for word, influence in cell
    ]
    return "<br>".join(" ".join(marked[start : start + 12]) for start in range(0, len(cell), 12))


def _markdown(text: str) -> str:
    """Escape; U+2068 and U+2069 isolate right-to-left text: TensorBoard removes `<bdi>`."""
    escaped = _PLAIN.sub(lambda match: f"&#{ord(match.group())};", text)
    return escaped if text.isascii() else f"\u2068{escaped}\u2069"


def _html_cell(cell: str | Words) -> str:
    if isinstance(cell, str):
        return f"<bdi>{html.escape(clean(cell))}</bdi>"
    most = max((abs(influence) for _, influence in cell), default=0.0) or 1.0
    return " ".join(
        f'<span class="{"pos" if influence > 0 else "neg"}" '
        f'style="--strength:{abs(influence) / most:.2f}" title="{influence:+.3f}">'
        f"<bdi>{html.escape(clean(word))}</bdi></span>"
        for word, influence in cell
    )
