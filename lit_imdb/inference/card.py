"""The texts of an exported model: its card, which tells of its run, and the example."""

import json
from contextlib import suppress
from importlib.metadata import version
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined

from lit_imdb.data.source import open_source
from lit_imdb.inference.classifier import SentimentClassifier


def model_card(classifier: SentimentClassifier, model: str) -> str:
    """Fill in card.md for a classifier whose network is the file `model`.

    What is known of its run stands in `results.json`, two folders above the checkpoint.
    """
    origin = classifier.origin
    results: dict[str, Any] = {"reviews": {}, "test_acc": None}
    with suppress(OSError, ValueError, TypeError):  # a checkpoint without its run
        run = origin.path.resolve().parent.parent
        results |= json.loads((run / "results.json").read_text("utf-8"))
    return fill_in(
        "card.md",
        origin=origin,
        results=results,
        net=classifier.net,
        encoder=classifier.encoder,
        model=model,
        film=origin.source in ("hub", "package"),  # of others nothing is known but their name
        source=open_source(origin.source),
        version=version("lit-imdb"),
    )


def fill_in(template: str, **values: Any) -> str:
    """Return a file of this folder with its Jinja tags replaced."""
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    text = files("lit_imdb.inference").joinpath(template).read_text("utf-8")
    return environment.from_string(text).render(values)
