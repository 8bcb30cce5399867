"""`report.html`: one file that needs no network. Texts of reviews never become markup."""

import base64
import html
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from importlib.resources import files
from string import Template
from typing import Any, NamedTuple

_SHOWN = 1000  # characters of a text

Words = list[tuple[str, float]]  # each with its influence: above 0 it speaks for positive
Shown = tuple[str, str, "bytes | Table"]  # title, caption, a PNG or a table


class Table(NamedTuple):
    """Rows of texts, and of words that are coloured by their influence."""

    header: Sequence[str]
    rows: Sequence[Sequence[str | Words]]


def html_of(results: Mapping[str, Any], sections: Mapping[str, Sequence[Shown]]) -> str:
    """Return the page of a run: the content of `results.json`, then the panels by heading."""
    parts = []
    for heading, panels in sections.items():
        shown = "\n".join(_panel(*panel) for panel in panels)
        parts.append(f'<h2>{html.escape(heading)}</h2>\n<div class="panels">\n{shown}\n</div>')
    count, epoch = results["reviews"]["test"], results["best_epoch"]
    fields = {
        "title": html.escape(str(results["run"])),
        "accuracy": f"{100 * results['test_acc']:.1f} %",
        "of": f"of {count:,} test reviews right"
        + (f", with the weights of epoch {epoch}" if epoch else ""),
        "summary": html_table(Table([], list(_summary(results).items()))),
        "settings": html.escape(json.dumps(results["config"], indent=2)),
        "sections": "\n".join(parts),
    }
    template = files("lit_imdb.report").joinpath("page.html").read_text("utf-8")
    return Template(template).substitute(fields)


def _summary(results: Mapping[str, Any]) -> dict[str, str]:
    """Return what a colleague asks about a run."""
    changed = ", ".join(f"{name} {value}" for name, value in results["changed"].items())
    state = {True: ", with local changes", False: ", no local changes", None: ""}
    val, loss, seconds = results["val_acc"], results["val_loss"], results["seconds_per_epoch"]
    reviews = ", ".join(f"{name} {count:,}" for name, count in results["reviews"].items())
    return {
        "Test": f"{100 * results['test_acc']:.2f} %, loss {results['test_loss']:.4f}",
        "Validation": "none" if val is None else f"{100 * val:.2f} %, loss {loss:.4f}",
        "Differs from the default": changed or "nothing",
        "Seed": str(results["seed"]),
        "Reviews": f"{results['source']}: {reviews}",
        "Parameters": f"{results['parameters']:,}",
        "Commit": (results["git_commit"] or "unknown") + state[results["git_dirty"]],
        "Date": f"{results['date'][:16]}, {results['seconds_total']:.0f} s",
        "Epochs": f"{results['epochs']}" + (f", {seconds:.1f} s each" if seconds else ""),
        "Machine": results["machine"],
        "Versions": ", ".join(f"{name} {each}" for name, each in results["versions"].items()),
    }


def _panel(title: str, caption: str, content: bytes | Table) -> str:
    caption = re.sub(r"(--[\w.]+\w)", r"<code>\1</code>", html.escape(caption))
    title = html.escape(title)
    if isinstance(content, Table):
        return f'<div class="wide"><h3>{title}</h3><p>{caption}</p>\n{html_table(content)}</div>'
    source = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    image = f'<img alt="{title}" width="600" height="450" src="{source}">'
    return f"<figure><h3>{title}</h3>{image}<figcaption>{caption}</figcaption></figure>"


def html_table(table: Table) -> str:
    """Return a table in which every text is escaped and on one line."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in table.header)
    lines = ["".join(f"<td>{_cell(cell)}</td>" for cell in row) for row in table.rows]
    rows = "\n".join(f"<tr>{line}</tr>" for line in [head, *lines] if line)
    return f"<table>\n{rows}\n</table>"


def _cell(cell: str | Words) -> str:
    if isinstance(cell, str):
        return f"<bdi>{html.escape(clean(cell))}</bdi>"
    most = max((abs(influence) for _, influence in cell), default=0.0) or 1.0
    return " ".join(
        f'<span class="{"pos" if influence > 0 else "neg"}" '
        f'style="--strength:{abs(influence) / most:.2f}" title="{influence:+.3f}">'
        f"<bdi>{html.escape(clean(word))}</bdi></span>"
        for word, influence in cell
    )


def clean(text: str) -> str:
    """Return the start of `text` on one line, without control characters.

    Format characters go too: a right-to-left override would reverse what follows it.

    >>> clean("An\\n\\x00odd <br />film\\u202e")
    'An odd film'
    """
    text = text[: 2 * _SHOWN].replace("<br />", " ")
    kept = "".join(" " if unicodedata.category(char)[0] in "CZ" else char for char in text)
    kept = " ".join(kept.split())
    return kept if len(kept) <= _SHOWN else f"{kept[:_SHOWN]}\u2026"
