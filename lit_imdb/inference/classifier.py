"""A trained model for other programs: texts in, answers out, no Trainer needed.

Shapes: B reviews, T tokens.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from lit_imdb.data.tables import batches_of
from lit_imdb.data.text import TextEncoder
from lit_imdb.errors import UserError
from lit_imdb.inference.prediction import Prediction, figures_of, predictions_of
from lit_imdb.model.attribution import influences
from lit_imdb.model.folded import fold
from lit_imdb.model.network import SentimentRNN
from lit_imdb.training.checkpoint import find_checkpoint, read_checkpoint


class SentimentClassifier:
    """Judges reviews with a trained network; safe to share between threads.

    Args:
        net: The trained network; it is put into evaluation mode.
        encoder: What turned texts into ids in its training.

    An untrained network knows nothing, but shows the form of the answers:

    >>> net = SentimentRNN(vocab_size=4, embedding_dim=3, hidden_dim=2)
    >>> encoder = TextEncoder(["<pad>", "<unk>", "film", "great"], max_length=5)
    >>> classifier = SentimentClassifier(net, encoder)
    >>> great, empty = classifier.predict(["Great film, zebra zebra!", None])
    >>> great.label in ("neg", "pos"), 0 < great.probability < 1, great.unknown_words
    (True, True, 0.5)
    >>> empty.label, empty.probability, empty.reason
    ('', None, 'empty review: no word to read')
    >>> [word for word, influence in classifier.explain("A great film")]
    ['a', 'great', 'film']
    """

    def __init__(self, net: SentimentRNN, encoder: TextEncoder) -> None:
        self.net = net.eval()
        self.encoder = encoder
        self.device = net.head.weight.device
        self._logits = fold(net)

    def predict(
        self, texts: str | Iterable[str | None], batch_size: int = 1024
    ) -> list[Prediction]:
        """One answer per text, in their order; a single text gives a list of one."""
        return list(self.stream([texts] if isinstance(texts, str) else texts, batch_size))

    def stream(self, texts: Iterable[str | None], batch_size: int = 1024) -> Iterator[Prediction]:
        """The same for more texts than memory holds: reads `batch_size` of them at a time."""
        if batch_size < 1:
            raise UserError(f"batch_size {batch_size}: expected at least 1")
        for batch in batches_of(iter(texts), batch_size):
            yield from self._predict_batch(batch)

    @torch.inference_mode()
    def _predict_batch(self, texts: list[str | None]) -> list[Prediction]:
        ids = torch.from_numpy(self.encoder.encode([text or "" for text in texts]))  # (B, T)
        ids = ids.int().to(self.device)
        return predictions_of(figures_of(torch.sigmoid(self._logits(ids)), ids))

    def explain(self, text: str) -> list[tuple[str, float]]:
        """The words that the network read, each with its influence: see `model.attribution`."""
        tokens = self.encoder.tokens(text)
        if not tokens:
            return []
        ids = torch.from_numpy(self.encoder.encode([text])).int().to(self.device)  # (1, T)
        influence = influences(self.net, ids)[0, -len(tokens) :]  # (tokens,)
        return list(zip(tokens, influence.tolist(), strict=True))


def load(path: str | Path = "best", device: str | torch.device = "cpu") -> SentimentClassifier:
    """The classifier that a checkpoint holds.

    Args:
        path: A checkpoint file, or `best` or `last` of the newest run below the working folder.
        device: Where to compute.

    Raises:
        UserError: No such checkpoint, damaged, or holding more than tensors and plain values.
    """
    checkpoint = read_checkpoint(find_checkpoint(str(path)))
    net, encoder = network_of(checkpoint), encoder_of(checkpoint)
    return SentimentClassifier(net.to(device), encoder)


def network_of(checkpoint: dict[str, Any]) -> SentimentRNN:
    """The network of a checkpoint, with its weights.

    Raises:
        UserError: Settings and weights do not fit.
    """
    weights = {
        name.removeprefix("net."): tensor
        for name, tensor in checkpoint["state_dict"].items()
        if name.startswith("net.")
    }
    try:
        net = SentimentRNN.from_settings(checkpoint["hyper_parameters"])
        net.load_state_dict(weights)
    except (KeyError, TypeError, RuntimeError) as error:
        raise UserError(f"the checkpoint's settings and weights do not fit: {error}") from error
    return net


def encoder_of(checkpoint: dict[str, Any]) -> TextEncoder:
    """What turns texts into ids for the network of a checkpoint."""
    settings = checkpoint["datamodule_hyper_parameters"]
    vocabulary = checkpoint["ImdbDataModule"]["vocabulary"].split("\n")
    return TextEncoder(vocabulary, settings["tokenizer"], settings["max_length"])
