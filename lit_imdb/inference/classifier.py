"""A trained model for other programs: texts in, answers out, without the Trainer.

Shapes: B reviews, T tokens.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lit_imdb.data.tables import batches_of
from lit_imdb.data.text import PAD_ID, UNK_ID, TextEncoder
from lit_imdb.errors import UserError, as_user_error
from lit_imdb.inference.origin import Origin, origin_of
from lit_imdb.model.network import SentimentRNN, evaluator_of, network_of
from lit_imdb.training.checkpoint import (
    encoder_of,
    find_checkpoint,
    is_custom,
    read_checkpoint,
    run_config,
)

UNNAMED = Origin(Path("unnamed"))


@dataclass(frozen=True)
class Prediction:
    """The answer for one review.

    Attributes:
        label: `neg` or `pos`; empty where there is no answer.
        probability: Of a positive review, 0 to 1; None where there is no answer.
        unknown_words: Share of the words read that are not in the vocabulary, 0 to 1; None where
            there is no word.
        reason: Why there is no answer; empty otherwise.
    """

    label: str
    probability: float | None
    unknown_words: float | None
    reason: str = ""


class SentimentClassifier:
    """Labels reviews with a trained network; threads may share it.

    Args:
        net: The trained network; it is put into evaluation mode.
        encoder: The encoder of its training, which turns texts into ids.
        origin: The checkpoint that the weights come from.

    An untrained network, to show the form of the answers:

    >>> net = SentimentRNN(vocab_size=4, embedding_dim=3, hidden_dim=2)
    >>> encoder = TextEncoder(["<pad>", "<unk>", "film", "great"], max_length=5)
    >>> classifier = SentimentClassifier(net, encoder)
    >>> great, unknown, empty = classifier.predict(["Great film, zebra zebra!", "Zebra?", None])
    >>> great.label in ("neg", "pos"), 0 < great.probability < 1, great.unknown_words
    (True, True, 0.5)
    >>> unknown
    Prediction(label='', probability=None, unknown_words=1.0, reason='no known word to read')
    >>> empty.label, empty.probability, empty.reason
    ('', None, 'empty review: no word to read')
    >>> [word for word, influence in classifier.explain("A great film")]
    ['a', 'great', 'film']
    """

    def __init__(self, net: SentimentRNN, encoder: TextEncoder, origin: Origin = UNNAMED) -> None:
        self.net, self.encoder, self.origin = net.eval(), encoder, origin
        self._logits = evaluator_of(net)

    def predict(self, texts: str | Iterable[str | None]) -> list[Prediction]:
        """Return one answer per text, in order; a list of one for a single text."""
        return list(self.stream([texts] if isinstance(texts, str) else texts))

    def stream(self, texts: Iterable[str | None]) -> Iterator[Prediction]:
        """Yield the same for more texts than memory holds, reading 1,024 at a time."""
        for batch in batches_of((text or "" for text in texts), 1024):
            yield from self.predict_ids(self.encoder.encode(batch))

    @torch.inference_mode()
    def predict_ids(self, ids: np.ndarray) -> list[Prediction]:
        """Return one answer per row of ids (B, T), as `encoder.encode` returns them."""
        probabilities = torch.sigmoid(self._logits(self._tensor(ids)))  # (B,)
        words, unknown = (ids != PAD_ID).sum(1), (ids == UNK_ID).sum(1)  # (B,)
        rows = zip(probabilities.tolist(), words.tolist(), unknown.tolist(), strict=True)
        return [_prediction(*row) for row in rows]

    def explain(self, text: str) -> list[tuple[str, float]]:
        """Return the words read, each with its influence: see `SentimentRNN.influences`."""
        words = self.encoder.tokens(text)
        if not words:
            return []
        ids = self.encoder.encode([text])[:, -len(words) :]  # (1, T)
        return list(zip(words, self.net.influences(self._tensor(ids))[0].tolist(), strict=True))

    def _tensor(self, ids: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(ids).to(next(self.net.parameters()).device)


def _prediction(probability: float, words: int, unknown: int) -> Prediction:
    if not words:
        return Prediction("", None, None, "empty review: no word to read")
    if unknown == words:
        return Prediction("", None, 1.0, "no known word to read")
    return Prediction("pos" if probability > 0.5 else "neg", probability, unknown / words)


def load(
    path: str | Path = "best",
    device: str | torch.device = "cpu",
    model: Callable[..., Any] | None = None,
) -> SentimentClassifier:
    """Load the classifier that a checkpoint holds.

    Args:
        path: A file, or below the working folder `best`, the newest there is, or `last` of the
            newest run.
        device: Where to compute: `cpu`, `cuda`, `cuda:1`, or `auto` for a GPU where there is one.
        model: The subclass of `LitSentiment` that was trained; by default the one that the run's
            config.yaml names.

    Raises:
        UserError: No such checkpoint or device, or a checkpoint that is damaged, of another class,
            or holds more than tensors and plain values.
    """
    file = find_checkpoint(str(path))
    model = model or _model_of_run(file)
    checkpoint = read_checkpoint(file, check_network=model is None)
    weights = checkpoint["state_dict"].items()
    problem = f"{file} does not fit the class {getattr(model, '__name__', 'SentimentRNN')}"
    with as_user_error(problem, RuntimeError, TypeError, AttributeError):
        net = network_of(checkpoint["hyper_parameters"], model).requires_grad_(False)
        if model is None:
            net.to_empty(device="cpu")
        net.load_state_dict({k.removeprefix("net."): v for k, v in weights if k.startswith("net.")})
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    advice = "expected auto, cpu or cuda"
    with as_user_error(f"no device {device}", RuntimeError, AssertionError, advice=advice):
        net.to(device)
    return SentimentClassifier(net, encoder_of(checkpoint), origin_of(file, checkpoint))


def _model_of_run(file: Path) -> Callable[..., Any] | None:
    """Import the class that the run's config.yaml names, if it is not `LitSentiment`."""
    model_config = run_config(file).get("model") or {}
    class_path = model_config.get("class_path", "lit_imdb.LitSentiment")
    if not is_custom(class_path):
        return None
    module, _, name = class_path.rpartition(".")
    problem = f"{file} is of {class_path}, which cannot be imported"
    advice = "work in the folder of its module, or give load(..., model=)"
    with as_user_error(problem, ImportError, AttributeError, ValueError, advice=advice):
        model: Any = getattr(import_module(module), name)
    from lit_imdb.model.module import LitSentiment  # Lightning: the class above imported it

    if not (isinstance(model, type) and issubclass(model, LitSentiment)):
        raise UserError(f"{file} is of {class_path}: expected a subclass of LitSentiment")
    return model
