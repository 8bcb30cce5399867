"""Tables of texts that anybody may have written: nothing in them becomes markup.

TensorBoard shows Markdown and takes most HTML out; `report.html` shows HTML.
"""

import html
import re
import textwrap
import unicodedata
from collections.abc import Iterable, Sequence

LINE = 70  # characters in a line of a Markdown cell
SHOWN = 300  # characters of a text: its end, which is what the network reads
_PLAIN = re.compile(r"[^\w\s.,;:?'/%=+()-]|_", re.ASCII)


def clean(text: str) -> str:
    """The end of `text` on one line, without control characters.

    Format characters go too: a right-to-left override would turn round what stands after it.

    >>> clean("An\\n\\x00odd <br />film\\u202e")
    'An odd film'
    """
    if _is_simple(text):
        return text
    text = text[-2 * SHOWN :].replace("<br />", " ")
    kept = "".join(" " if unicodedata.category(char)[0] in "CZ" else char for char in text)
    kept = " ".join(kept.split())
    return kept if len(kept) <= SHOWN else f"\u2026{kept[-SHOWN:]}"


def markdown_cell(text: str) -> str:
    """`clean` text in which neither Markdown nor HTML finds anything to interpret.

    Long ones are broken into lines: TensorBoard would break the columns beside them instead.

    >>> markdown_cell("a|b")
    '\\u2068a&#124;b\\u2069'
    """
    return "<br>".join(_markdown(line) for line in textwrap.wrap(clean(text), LINE))


def markdown_word(word: str) -> str:
    """A cell's word, which is not broken."""
    return word if _is_simple(word) else _markdown(clean(word))


def _markdown(text: str) -> str:
    """Escaped; U+2068 and U+2069 isolate right-to-left text: TensorBoard takes `<bdi>` out."""
    escaped = _PLAIN.sub(lambda match: f"&#{ord(match.group())};", text)
    return f"\u2068{escaped}\u2069"


def _is_simple(text: str) -> bool:
    """Whether there is nothing to clean or escape: so with most words, and looking is fast."""
    return text.isascii() and text.isalnum() and len(text) <= SHOWN


def html_cell(text: str) -> str:
    """`clean` text for HTML.

    >>> html_cell("a < b")
    '<bdi>a &lt; b</bdi>'
    """
    return f"<bdi>{html.escape(clean(text))}</bdi>"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table of cells that are escaped already."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def html_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """An HTML table of cells that are escaped already; wide ones scroll."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in header)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>\n" for row in rows)
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}</tbody></table></div>"
    )
