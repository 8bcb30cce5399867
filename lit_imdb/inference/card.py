"""The texts of an exported model: its card, which tells of its run, and the example."""

import json
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from lit_imdb.data.source import open_source
from lit_imdb.inference.classifier import SentimentClassifier

TEMPLATES = Environment(
    loader=PackageLoader("lit_imdb", "inference"),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


def model_card(classifier: SentimentClassifier, model: str) -> str:
    """Fill in card.md for a classifier whose network is the file `model`.

    What is known of its run stands in `results.json`, two folders above the checkpoint.
    """
    origin = classifier.origin
    results: dict[str, Any] = {"reviews": {}, "test_acc": None}
    with suppress(OSError, ValueError, TypeError):  # a checkpoint without its run
        run = origin.path.resolve().parent.parent
        results |= json.loads((run / "results.json").read_text("utf-8"))
    return TEMPLATES.get_template("card.md").render(
        origin=origin,
        results=results,
        net=classifier.net,
        encoder=classifier.encoder,
        model=model,
        film=origin.source in ("hub", "package"),  # of others nothing is known but their name
        source=open_source(origin.source),
        name=Path(origin.source).name,  # not the whole path: the card goes to strangers
        version=version("lit-imdb"),
    )
