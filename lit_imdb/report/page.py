"""`report.html`: one file that needs no network. Texts of reviews never become markup."""

import json
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from jinja2 import Environment, Template

from lit_imdb.training.results import metric_pair

_MAX_CHARACTERS = 1000  # of a text

Words = list[tuple[str, float]]  # each with its influence: above 0 it speaks for positive


class Table(NamedTuple):
    """Rows of texts, and of words that are coloured by their influence."""

    header: Sequence[str]
    rows: Sequence[Sequence[str | Words]]


class Shown(NamedTuple):
    """A panel as the page has it: a table, or a PNG in base64."""

    title: str
    caption: str
    content: str | Table


def html_of(results: Mapping[str, Any], sections: Mapping[str, Sequence[Shown]]) -> str:
    """Return the page of a run: the content of `results.json`, then the panels by heading."""
    return _template().render(
        results=results,
        summary=Table([], list(_summary(results).items())),
        settings=json.dumps(results["config"], indent=2),
        sections=sections,
    )


@cache
def _template() -> Template:
    """Return page.html, which escapes all that it is given."""
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["clean"] = clean
    return environment.from_string(files("lit_imdb.report").joinpath("page.html").read_text())


def _summary(results: Mapping[str, Any]) -> dict[str, str]:
    """Return what a colleague asks about a run."""
    changed = ", ".join(f"{name} {value}" for name, value in results["changed"].items())
    state = {True: ", with local changes", False: ", no local changes", None: ""}
    seconds = results["seconds_per_epoch"]
    reviews = ", ".join(f"{name} {count:,}" for name, count in results["reviews"].items())
    return {
        "Test": metric_pair(results["test_acc"], results["test_loss"]),
        "Validation": metric_pair(results["val_acc"], results["val_loss"]),
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


def clean(text: str) -> str:
    """Return the start of `text` on one line, without control characters.

    Format characters go too: a right-to-left override would reverse what follows it.

    >>> clean("An\\n\\x00odd <br />film\\u202e")
    'An odd film'
    """
    text = text[: 2 * _MAX_CHARACTERS].replace("<br />", " ")
    kept = "".join(" " if unicodedata.category(char)[0] in "CZ" else char for char in text)
    kept = " ".join(kept.split())
    return kept if len(kept) <= _MAX_CHARACTERS else f"{kept[:_MAX_CHARACTERS]}\u2026"
