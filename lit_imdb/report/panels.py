"""Everything that the report shows at the end: a new panel is a function and an entry here."""

from collections.abc import Callable
from typing import NamedTuple

from matplotlib.figure import Figure

from lit_imdb.data.datamodule import ImdbDataModule
from lit_imdb.model.network import SentimentRNN
from lit_imdb.report import answers
from lit_imdb.report.figures import Table, curves
from lit_imdb.report.gradients import draw_gradients, measure
from lit_imdb.report.reviews import mistakes, sentences
from lit_imdb.report.words import draw_word_space, nearest_words
from lit_imdb.training.history import History


class Run(NamedTuple):
    """A finished run.

    Attributes:
        net: With the weights that were tested, those of the best epoch.
        data: The splits and the vocabulary.
        history: The metrics of each epoch and validation.
        test: The answers to the test split.
    """

    net: SentimentRNN
    data: ImdbDataModule
    history: History
    test: answers.Answers


class Panel(NamedTuple):
    """A picture or a table; None is left out."""

    title: str
    caption: str  # what to look for
    draw: Callable[[Run], Figure | Table | None]
    tag: str = ""  # a picture's name in TensorBoard, which draws curves itself
    of_cells: bool = False  # not for a network without cells


# fmt: off
PANELS: dict[str, list[Panel]] = {  # by section of the page
    "Does it learn, or memorise?": [
        Panel("Loss",
              "If validation rises while training falls, training reviews are learned by heart.",
              lambda run: curves(run.history, "loss")),
        Panel("Accuracy",
              "The epoch with the best validation accuracy is kept as best.ckpt.",
              lambda run: curves(run.history, "acc")),
    ],
    "How good are its answers to the test reviews?": [
        Panel("Confusion matrix",
              "If one row is much worse, the network prefers one answer.",
              lambda run: answers.draw_confusion(run.test), "verdicts/confusion_matrix"),
        Panel("Probability by label",
              "A hump at the wrong end means confident mistakes.",
              lambda run: answers.draw_probabilities(run.test), "verdicts/probability_by_label"),
        Panel("Reliability",
              "A curve flatter than the diagonal means that the network is too sure.",
              lambda run: answers.draw_reliability(run.test), "verdicts/reliability"),
        Panel("Accuracy by length",
              "If the longest reviews are worst, try a larger --data.max_length.",
              lambda run: answers.draw_by_length(run.test), "verdicts/accuracy_by_length"),
    ],
    "What has it learned?": [
        Panel("Gradient by token",
              "How much each hidden state matters to the loss: a fall to the left by many powers "
              "of ten means that the gradient vanishes, a rise that it explodes.",
              lambda run: draw_gradients(measure(run.net, run.data.splits["val"])[0]),
              "vanishing/gradient_by_token", of_cells=True),
        Panel("Word space",
              "The frequent words on the two directions in which they differ most, coloured by the "
              "training reviews in which they occur more often.",
              lambda run: draw_word_space(run.net, run.data), "words/space", of_cells=True),
        Panel("Nearest words",
              "If they look random, the embedding has hardly moved.",
              lambda run: nearest_words(run.net, run.data.encoder.vocabulary),
              of_cells=True),
    ],
    "Where does it fail?": [
        Panel("Hand-written sentences",
              "The same in every run: does it understand negation, or irony?",
              lambda run: sentences(run.net, run.data.encoder)),
        Panel("Most confident mistakes",
              "Blue words speak for a positive review and orange ones for a negative one: which "
              "words decide, and is the label right?",
              lambda run: mistakes(run.net, run.data.encoder, run.test)),
    ],
}
# fmt: on
