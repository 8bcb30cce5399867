"""Reviews as the program prepares them."""

from pathlib import Path

from lit_imdb.data.datamodule import ImdbDataModule
from lit_imdb.data.prepare import Preparation
from lit_imdb.data.source import open_source
from lit_imdb.data.splits import SPLITS

SETTINGS = {"tokenizer": "words", "vocab_size": 60, "max_length": 8, "val_fraction": 0.1}


def preparation(source: Path, root: Path, **settings: object) -> Preparation:
    form = {name: settings.pop(name) for name in ("text_column", "encoding") if name in settings}
    settings = {**SETTINGS, **settings}
    return Preparation(open_source(str(source), **form), root, **settings)  # type: ignore[arg-type]


def texts_of(source: Path, **form: str) -> dict[str, list[tuple[str, int]]]:
    """(text, label) of each split, as the program makes them."""
    prepared = preparation(source, Path("unused"), **form)
    labels, splits, _ = prepared.rows
    texts = [text for batch, _ in prepared.batches() for text in batch]
    rows = list(zip(texts, labels.tolist(), splits.tolist(), strict=True))
    return {
        name: [(text, label) for text, label, split in rows if split == number]
        for name, number in SPLITS.items()
    }


def data_of(source: Path, **settings: object) -> ImdbDataModule:
    module = ImdbDataModule(str(source), **{**SETTINGS, "batch_size": 16, **settings})  # type: ignore[arg-type]
    module.prepare_data()
    module.setup("fit")
    return module
