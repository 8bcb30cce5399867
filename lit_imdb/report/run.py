"""What a panel of the report may show something of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from lit_imdb.data.datamodule import ImdbDataModule
from lit_imdb.model.network import SentimentRNN
from lit_imdb.report.evaluation import Evaluation
from lit_imdb.report.trainability import Trainability, measure
from lit_imdb.report.words import WordSpace, word_space


@dataclass(frozen=True)
class Run:
    """A training run, after a validation or at its end.

    Attributes:
        net: At the end with the weights that are kept.
        data: The splits and the vocabulary.
        evaluations: The answers to the split `val`, and at the end to `test`.
        epochs: For each epoch `train/loss` and `train/acc`, if they were logged.
        validations: For each validation its `epoch`, `val/loss` and `val/acc`.
        numbers: For each validation its `epoch`, and everything in `panels.NUMBERS` by tag.
        kept: The epoch whose weights are kept, if it is known.
    """

    net: SentimentRNN
    data: ImdbDataModule
    evaluations: Mapping[str, Evaluation]
    epochs: Sequence[Mapping[str, float]] = ()
    validations: Sequence[Mapping[str, float]] = ()
    numbers: Sequence[Mapping[str, float]] = ()
    kept: float | None = None

    @cached_property
    def trainability(self) -> Trainability:
        return measure(self.net, self.data.splits["val"])

    @cached_property
    def word_space(self) -> WordSpace:
        return word_space(self.net, self.data.encoder.vocabulary, self.data.splits["train"])
