"""The model card of an exported model, filled from its checkpoint and its run."""

import json
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from lit_imdb.data.source import note_of
from lit_imdb.inference.origin import Origin

_UNKNOWN = "unknown: the run's results.json was not beside the checkpoint"
_FILM_REVIEWS = (
    "English film reviews with a clear verdict, without neutral ones: on other languages and "
    "subjects"
)
_FILES = {
    "onnx": "`model.onnx`: input `ids`, int64 (reviews, tokens); output `logits`, float32 "
    "(reviews,); any number of reviews and tokens",
    "torch": "`model.pt2`, for `torch.export.load`: ids, int64 (reviews, tokens), to logits, "
    "float32 (reviews,); any number of reviews and tokens",
}
_RECURRENT = (
    "embedding ({vocab_size} x {embedding_dim}), {cells} tanh RNN cells of {hidden_dim} units,\n"
    "  one logit"
)
_NGRAMS = "one number for each word, pair and triple of words; the logit is their sum and a bias"


def model_card(origin: Origin, checkpoint: dict[str, Any], format: str) -> str:
    """Fill in card.md from a checkpoint and the `results.json` two folders up, its run's."""
    data = checkpoint["datamodule_hyper_parameters"]
    model = checkpoint["hyper_parameters"]
    try:
        run = origin.path.resolve().parents[1]
        results = json.loads((run / "results.json").read_text("utf-8"))
    except (OSError, ValueError, IndexError):
        results = {}
    source = str(results.get("source", data["source"]))
    known = source in ("hub", "package", "auto")  # of other files nothing is known but their name
    name = Path(source).name  # not the whole path: the card goes to strangers
    note, licence = note_of(source)
    reviews = [f"{split} {count:,}" for split, count in results.get("reviews", {}).items()]
    cells = sum(name.endswith(".weight_hh") for name in checkpoint["state_dict"])
    network = _RECURRENT if cells else _NGRAMS
    return Template(files("lit_imdb.inference").joinpath("card.md").read_text("utf-8")).substitute(
        title="IMDB sentiment" if known else "Sentiment",
        review="an English film review" if known else "a review",
        together=", since reviews of one film stand together" if known else "",
        learned=_FILM_REVIEWS
        if known
        else f"the reviews in `{name}`, labelled neg and pos: on texts of another kind",
        data=note,
        licence=licence,
        version=version("lit-imdb"),
        checkpoint=origin.path.name,
        accuracy=origin.percent,
        warning=f"\n- **Warning: {origin.warning}**" if origin.warning else "",
        commit=results.get("git_commit") or "unknown",
        seed=checkpoint["training"]["seed"],
        kind="a small recurrent network" if cells else "a linear model of word pairs and triples",
        network=network.format(**model, cells=cells),
        files=_FILES[format],
        reviews=", ".join(reviews) or _UNKNOWN,
        metrics=_metrics(origin.path, results),
        max_length=data["max_length"],
        val_fraction=f"{data['val_fraction']:.0%}",
        vocab_size=model["vocab_size"],
    )


def _metrics(path: Path, results: dict[str, Any]) -> str:
    if results.get("test_acc") is None:
        return f"{_UNKNOWN.capitalize()}."
    whose = f"Of the run's best epoch ({results.get('best_epoch')} of {results.get('epochs')})"
    if path.name != "best.ckpt":
        whose += f", **not** of the exported `{path.name}`, which was not measured"
    rows = [f"{whose}:\n", "| split | accuracy | loss |", "| --- | --- | --- |"]
    for split in ("val", "test"):
        accuracy, loss = results.get(f"{split}_acc"), results.get(f"{split}_loss")
        if accuracy is not None:
            rows.append(f"| {split} | {accuracy:.2%} | {loss:.4f} |")
    return "\n".join(rows)
