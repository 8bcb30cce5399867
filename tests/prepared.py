"""Reviews as the program prepares them."""

from pathlib import Path

import numpy as np

from lit_imdb.data.datamodule import ImdbDataModule
from lit_imdb.data.reviews import PARTS, Reviews

SETTINGS = {"tokenizer": "words", "vocab_size": 60, "max_length": 8, "val_fraction": 0.1}


def texts_of(source: Path, **form: str) -> dict[str, list[tuple[str, int]]]:
    """(text, label) of each part, as the program splits them."""
    reviews = Reviews(str(source), 0.1, **form)
    texts = [text for batch, _ in reviews.batches() for text in batch]
    return {
        name: [(texts[row], int(reviews.labels[row])) for row in np.flatnonzero(reviews.parts == n)]
        for name, n in PARTS.items()
    }


def data_of(source: Path, **settings: object) -> ImdbDataModule:
    module = ImdbDataModule(str(source), **{**SETTINGS, "batch_size": 16, **settings})  # type: ignore[arg-type]
    module.prepare_data()
    module.setup("fit")
    return module
