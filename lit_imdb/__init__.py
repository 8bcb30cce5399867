"""IMDB film reviews, a recurrent network unrolled by hand, and PyTorch Lightning.

The public names are imported on first use, so that `import lit_imdb` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lit_imdb.data.datamodule import ImdbDataModule
    from lit_imdb.inference.classifier import Prediction, SentimentClassifier, load
    from lit_imdb.model.module import LitSentiment
    from lit_imdb.model.network import SentimentRNN

__version__ = "0.1.0"
__all__ = [
    "ImdbDataModule",
    "LitSentiment",
    "Prediction",
    "SentimentClassifier",
    "SentimentRNN",
    "__version__",
    "load",
]

_HOME = {
    "ImdbDataModule": "lit_imdb.data.datamodule",
    "Prediction": "lit_imdb.inference.classifier",
    "SentimentClassifier": "lit_imdb.inference.classifier",
    "load": "lit_imdb.inference.classifier",
    "LitSentiment": "lit_imdb.model.module",
    "SentimentRNN": "lit_imdb.model.network",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'lit_imdb' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
