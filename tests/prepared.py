"""Reviews as the program prepares them."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from lit_imdb.data.datamodule import ImdbDataModule
from lit_imdb.data.folders import Files
from lit_imdb.data.prepare import Preparation
from lit_imdb.data.source import open_source
from lit_imdb.data.splits import SPLITS

SETTINGS = {"tokenizer": "words", "vocab_size": 60, "max_length": 8, "val_fraction": 0.1}


def preparation(source: Path, root: Path, **settings: Any) -> Preparation:
    names = [field.name for field in fields(Files)]
    form = {name: settings.pop(name) for name in names if name in settings}
    return Preparation(open_source(str(source), **form), root, **{**SETTINGS, **settings})


def texts_of(source: Path, **form: str) -> dict[str, list[tuple[str, int]]]:
    """(text, label) of each split, as the program makes them."""
    found: dict[str, list[tuple[str, int]]] = {name: [] for name in SPLITS}
    for texts, labels, splits in preparation(source, Path("unused"), **form).batches():
        for name, number in SPLITS.items():
            rows = zip(texts, labels.tolist(), splits.tolist(), strict=True)
            found[name] += [(text, label) for text, label, split in rows if split == number]
    return found


def data_of(source: Path, **settings: Any) -> ImdbDataModule:
    module = ImdbDataModule(str(source), **{**SETTINGS, "batch_size": 16, **settings})
    module.prepare_data()
    module.setup("fit")
    return module
