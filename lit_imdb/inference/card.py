"""The model card of an exported model, filled from its checkpoint and its run."""

import json
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from lit_imdb.data.source import note_of
from lit_imdb.inference.origin import Origin

_IMDB = ("hub", "package", "auto")
_FILM_REVIEWS = (
    "English film reviews with a clear verdict, without neutral ones: on other languages and "
    "subjects"
)
_OWN_REVIEWS = "the reviews in `{name}`, labelled neg and pos: on texts of another kind"
_FILES = {
    "onnx": "`model.onnx`: input `ids`, int64 (reviews, tokens); output `logits`, float32 "
    "(reviews,); any number of reviews and tokens",
    "torch": "`model.pt2`, for `torch.export.load`: ids, int64 (reviews, tokens), to logits, "
    "float32 (reviews,); any number of reviews and tokens",
}


def model_card(origin: Origin, checkpoint: dict[str, Any], format: str) -> str:
    """Fill in card.md.

    Args:
        origin: The checkpoint; `results.json` two folders up is its run's.
        checkpoint: Its content.
        format: `onnx` or `torch`.
    """
    data = checkpoint["datamodule_hyper_parameters"]
    model = checkpoint["hyper_parameters"]
    results = _results_of(origin.path)
    source = str(results.get("source", data["source"]))
    name = Path(source).name  # not the whole path: the card goes to strangers
    note, licence = note_of(source)
    known = source in _IMDB  # of other files nothing is known but their name
    return Template(files("lit_imdb.inference").joinpath("card.md").read_text("utf-8")).substitute(
        title="IMDB sentiment" if known else "Sentiment",
        review="an English film review" if known else "a review",
        together=", since reviews of one film stand together" if known else "",
        learned=_FILM_REVIEWS if known else _OWN_REVIEWS.format(name=name),
        data=note,
        licence=licence,
        version=version("lit-imdb"),
        checkpoint=origin.path.name,
        accuracy=origin.percent,
        warning=f"\n- **Warning: {origin.warning}**" if origin.warning else "",
        commit=results.get("git_commit") or "unknown",
        seed=checkpoint["training"]["seed"],
        cells=sum(name.endswith(".weight_hh") for name in checkpoint["state_dict"]),
        files=_FILES[format],
        reviews=_reviews(results),
        metrics=_metrics(origin.path, results),
        max_length=data["max_length"],
        val_fraction=f"{data['val_fraction']:.0%}",
        **{size: model[size] for size in ("vocab_size", "embedding_dim", "hidden_dim")},
    )


def _results_of(path: Path) -> dict[str, Any]:
    try:
        content = json.loads((path.absolute().parents[1] / "results.json").read_text("utf-8"))
    except (OSError, ValueError, IndexError):
        return {}
    return content if isinstance(content, dict) else {}


def _reviews(results: dict[str, Any]) -> str:
    reviews = results.get("reviews")
    if not reviews:
        return "unknown: the run's results.json was not beside the checkpoint"
    return ", ".join(f"{name} {count:,}" for name, count in reviews.items())


def _metrics(path: Path, results: dict[str, Any]) -> str:
    if results.get("test_acc") is None:
        return "Unknown: the run's results.json was not beside the checkpoint."
    rows = ["| part | accuracy | loss |", "| --- | --- | --- |"]
    for part in ("val", "test"):
        accuracy, loss = results.get(f"{part}_acc"), results.get(f"{part}_loss")
        if accuracy is not None and loss is not None:
            rows.append(f"| {part} | {accuracy:.2%} | {loss:.4f} |")
    whose = f"Of the run's best epoch ({results.get('best_epoch')} of {results.get('epochs')})"
    if path.name != "best.ckpt":
        whose += f", **not** of the exported `{path.name}`, which was not measured"
    return f"{whose}:\n\n" + "\n".join(rows)
