"""`report.html`: one file that needs no network. Texts of reviews never become markup."""

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment

from lit_imdb.report.figures import Table
from lit_imdb.report.panels import Panel
from lit_imdb.training.results import metric_pair


def html_of(
    results: Mapping[str, Any], sections: Mapping[str, Sequence[tuple[Panel, str | Table]]]
) -> str:
    """Return the page of `results.json` and, by heading, the panels: a table or a base64 PNG."""
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["clean"] = clean
    template = files("lit_imdb.report").joinpath("page.html").read_text()
    return environment.from_string(template).render(
        results=results,
        summary=Table([], list(_summary(results).items())),
        settings=json.dumps(results["config"], indent=2),
        sections=sections,
    )


def _summary(results: Mapping[str, Any]) -> dict[str, str]:
    """Return what a colleague asks about a run."""
    changed = ", ".join(f"{name} {value}" for name, value in results["changed"].items())
    state = ", with local changes" if results["git_dirty"] else ""
    reviews = ", ".join(f"{name} {count:,}" for name, count in results["reviews"].items())
    return {
        "Test": metric_pair(results["test_acc"], results["test_loss"]),
        "Validation": metric_pair(results["val_acc"], results["val_loss"]),
        "Differs from the default": changed or "nothing",
        "Seed": str(results["seed"]),
        "Reviews": f"{results['source']}: {reviews}",
        "Parameters": f"{results['parameters']:,}",
        "Commit": (results["git_commit"] or "unknown") + state,
        "Date": f"{results['date'][:16]}, {results['seconds_total']:.0f} s",
        "Epochs": f"{results['epochs']}, {results['seconds_per_epoch']:.1f} s each",
        "Machine": results["machine"],
        "Versions": ", ".join(f"{name} {each}" for name, each in results["versions"].items()),
    }


def clean(text: str) -> str:
    """Return a text on one line, without control characters.

    Format characters go too: a right-to-left override would reverse what follows it.

    >>> clean("An\\n\\x00odd  film\\u202e")
    'An odd film'
    """
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())
