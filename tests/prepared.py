"""Reviews as the program prepares them."""

from pathlib import Path
from typing import Any

from lit_imdb.data.datamodule import ImdbDataModule
from lit_imdb.data.prepare import Preparation
from lit_imdb.data.source import open_source
from lit_imdb.data.splits import SPLITS

SETTINGS: Any = {"tokenizer": "words", "vocab_size": 60, "max_length": 8, "val_fraction": 0.1}


def texts_of(source: Path, **form: str) -> dict[str, list[tuple[str, int]]]:
    """(text, label) of each split, as the program makes them."""
    found: dict[str, list[tuple[str, int]]] = {name: [] for name in SPLITS}
    preparation = Preparation(open_source(str(source), **form), Path("unused"), **SETTINGS)
    for texts, labels, splits in preparation.batches():
        for name, number in SPLITS.items():
            rows = zip(texts, labels.tolist(), splits.tolist(), strict=True)
            found[name] += [(text, label) for text, label, split in rows if split == number]
    return found


def data_of(source: Path | str, vocabulary: Any = None, **settings: Any) -> ImdbDataModule:
    module = ImdbDataModule(str(source), **{**SETTINGS, "batch_size": 16, **settings})
    module.vocabulary = vocabulary  # a checkpoint's own
    module.prepare_data()
    module.setup("fit")
    return module
