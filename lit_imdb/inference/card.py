"""The model card of an exported model, filled from its checkpoint and its run."""

import json
from contextlib import suppress
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from lit_imdb.data.source import open_source
from lit_imdb.inference.origin import Origin


def model_card(origin: Origin, checkpoint: dict[str, Any], format: str) -> str:
    """Fill in card.md from a checkpoint and the `results.json` two folders up, its run's."""
    data = checkpoint["datamodule_hyper_parameters"]
    results: dict[str, Any] = {"reviews": {}, "test_acc": None, "git_commit": None}
    with suppress(OSError, ValueError, IndexError, TypeError):  # a checkpoint without its run
        run = origin.path.resolve().parents[1]
        results |= json.loads((run / "results.json").read_text("utf-8"))
    name = str(results.get("source", data["source"]))
    source = open_source(name)
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    card = files("lit_imdb.inference").joinpath("card.md").read_text("utf-8")
    return environment.from_string(card).render(
        origin=origin,
        results=results,
        data=data,
        model=checkpoint["hyper_parameters"],
        seed=checkpoint["training"]["seed"],
        cells=sum(name.endswith(".weight_hh") for name in checkpoint["state_dict"]),
        format=format,
        film=name in ("hub", "package", "auto"),  # of others nothing is known but their name
        source=Path(name).name,  # not the whole path: the card goes to strangers
        note=source.note,
        licence=source.licence,
        version=version("lit-imdb"),
    )
