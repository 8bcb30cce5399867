"""Reviews and their answers: hand-written sentences, and the surest mistakes.

Shapes: N chosen reviews, T tokens.
"""

import torch

from lit_imdb.data.text import TextEncoder
from lit_imdb.model.network import SentimentRNN
from lit_imdb.report.answers import LABELS, Answers
from lit_imdb.report.figures import Table, Words

# What makes it hard, the label that a reader would give, the text: the same in every run.
_SENTENCES = (
    ("plain", 1, "A wonderful film with great actors. I loved every minute of it."),
    ("plain", 0, "A terrible film: boring, badly acted and a complete waste of time."),
    ("negation", 1, "Not bad at all. I was not bored for a second and I do not regret it."),
    ("negation", 0, "This is not a good film, and nothing about it is funny or clever."),
    ("irony", 0, "Oh great, another masterpiece about nothing. I loved looking at my watch."),
    ("irony", 0, "The perfect film, if what you want is a good night's sleep."),
    ("mixed", 1, "The plot is weak and the start is slow, but the ending is superb. See it."),
    ("mixed", 0, "Excellent actors and beautiful music, but the story is awful and dull."),
)


def sentences(net: SentimentRNN, encoder: TextEncoder) -> Table:
    """Return the hand-written sentences, each with its answer."""
    ids = torch.from_numpy(encoder.encode([text for *_, text in _SENTENCES]))
    with torch.no_grad():
        logits = net(ids.to(next(net.parameters()).device), [None] * len(net.cells))
    probabilities = torch.sigmoid(logits.float()).tolist()
    rows = []
    for (kind, label, text), probability in zip(_SENTENCES, probabilities, strict=True):
        wrong = " \u2717" if label != (probability > 0.5) else ""
        rows.append([kind, LABELS[label], _show_answer(probability) + wrong, text])
    return Table(["kind", "label", "answer", "text"], rows)


def mistakes(net: SentimentRNN, encoder: TextEncoder, answers: Answers) -> Table:
    """Return the surest wrong answers, with the influence of each word read."""
    chosen = answers.mistakes()
    ids = answers.split.ids[answers.rows[chosen]]  # (N, T)
    influence = net.influences(ids.to(next(net.parameters()).device)).tolist()  # (N, T)
    rows: list[list[str | Words]] = []
    for place, values in zip(chosen, influence, strict=True):
        # of the text: it has the unknown words too
        tokens = encoder.tokens(answers.split.text(int(answers.rows[place])))
        words = list(zip(tokens, values[-len(tokens) :], strict=False))
        answer = _show_answer(float(answers.probabilities[place]))
        rows.append([LABELS[int(answers.labels[place])], answer, words])
    return Table(["label", "answer", "words read"], rows)


def _show_answer(probability: float) -> str:
    return f"{LABELS[probability > 0.5]} (positive: {probability:.1%})"
