"""Everything that the report shows: a new panel is a function and an entry in this file.

The function takes a `Run` and returns a matplotlib `Figure` or a `Table`. TensorBoard, the folder
`plots/` and `report.html` all show what is in `PANELS`.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from matplotlib.figure import Figure

from lit_imdb.report import plots, reviews
from lit_imdb.report.evaluation import Evaluation, Run
from lit_imdb.report.tables import Table


class Panel(NamedTuple):
    """A picture or a table that is drawn at the end of a run."""

    tag: str  # its name in TensorBoard
    title: str
    draw: Callable[[Run], Figure | Table]
    caption: str  # what to look for


# fmt: off
PANELS: dict[str, list[Panel]] = {  # by section of the page
    "Training and validation": [
        Panel("curves/loss", "Loss", partial(plots.curves, name="loss"),
              "If validation rises while training falls, training reviews are learned by heart."),
        Panel("curves/accuracy", "Accuracy", partial(plots.curves, name="acc"),
              "The epoch with the best validation accuracy is kept as best.ckpt."),
    ],
    "Answers to held-out reviews": [
        Panel("answers/roc", "ROC curve", plots.roc,
              "The area is the chance that a positive review gets the higher probability."),
        Panel("answers/reliability", "Reliability", plots.reliability,
              "The diagonal is ideal. A flatter curve means that the network is too sure."),
        Panel("answers/by_length", "Accuracy by length",
              partial(plots.groups, x="words read", by=Evaluation.by_length),
              "If the longest reviews are worst, try a larger --data.max_length."),
        Panel("answers/by_unknown", "Accuracy by unknown words",
              partial(plots.groups, x="unknown words", by=Evaluation.by_unknown),
              "If words outside the vocabulary cost much, raise --data.vocab_size."),
        Panel("answers/confusion_test", "Confusion matrix, test", plots.confusion,
              "If one row is much worse, the network prefers one answer."),
        Panel("answers/probability_test", "Probability by class, test", plots.probabilities,
              "A hump at the wrong end means confident mistakes."),
    ],
    "Can it learn from the first words?": [
        Panel("trainability/gradients", "Gradient by token", plots.gradients,
              "How much each hidden state matters to the loss. If it falls to the left by many "
              "powers of ten, it vanishes; if it rises, it explodes."),
        Panel("trainability/saturated", "Saturated units", plots.saturated,
              "Hidden units whose tanh is nearly flat. Near 1, no gradient passes."),
    ],
    "Words": [
        Panel("words/space", "Word space", plots.word_space,
              "Frequent words. The colour says in which training reviews they occur more often."),
        Panel("words/neighbours", "Nearest words", lambda run: run.word_space.neighbours(),
              "If they look random, the embedding has hardly moved."),
    ],
    "Reviews": [
        Panel("sentences/probability_of_positive", "Hand-written: probability of positive",
              reviews.sentences, "Does it understand negation, or irony?"),
        *(Panel(f"{split}/mistakes", f"Most confident mistakes, {split}",
                partial(reviews.mistakes, split=split), "Which words decide? Is the label right?")
          for split in ("test", "val")),
    ],
}
# fmt: on

# TensorBoard's CUSTOM SCALARS: several tags in one chart.
_PAIRS = {name: ["Multiline", [f"train/{name}", f"val/{name}"]] for name in ("loss", "acc")}
CHARTS = {"Training and validation": _PAIRS}
