"""Tables of reviews: the most confident answers, and hand-written ones.

Shapes: T tokens, N chosen reviews.
"""

import torch
from torch import Tensor

from lit_imdb.data.text import PAD_ID, TextEncoder
from lit_imdb.model.attribution import influences
from lit_imdb.report.run import Run
from lit_imdb.report.tables import Table, Words

# What makes it hard, the label that a reader would give, the text: the same in every run.
SENTENCES = (
    ("plain", "pos", "A wonderful film with great actors. I loved every minute of it."),
    ("plain", "neg", "A terrible film: boring, badly acted and a complete waste of time."),
    ("negation", "pos", "Not bad at all. I was not bored for a second and I do not regret it."),
    ("negation", "neg", "This is not a good film, and nothing about it is funny or clever."),
    ("irony", "neg", "Oh great, another masterpiece about nothing. I loved looking at my watch."),
    ("irony", "neg", "The perfect film, if what you want is a good night's sleep."),
    ("mixed", "pos", "The plot is weak and the start is slow, but the ending is superb. See it."),
    ("mixed", "neg", "Excellent actors and beautiful music, but the story is awful and dull."),
)
_TAGS = [f"sentences/{n}_{kind}_{label}" for n, (kind, label, _) in enumerate(SENTENCES, 1)]


def sentences(run: Run) -> Table:
    """The probability of positive of each sentence after each of the last validations."""
    shown = [numbers for numbers in run.numbers if _TAGS[0] in numbers][-8:]
    rows = [
        [label, *(f"{numbers[tag]:.0%}" for numbers in shown), f"{text} ({kind})"]
        for tag, (kind, label, text) in zip(_TAGS, SENTENCES, strict=True)
    ]
    return Table(["label", *(f"ep {numbers['epoch']:g}" for numbers in shown), "text"], rows)


def sentence_numbers(run: Run) -> dict[str, float]:
    ids = torch.from_numpy(run.data.encoder.encode([text for *_, text in SENTENCES])).int()
    with torch.no_grad():
        logits = run.net(ids.to(run.net.head.weight.device), [None] * len(run.net.cells))
    return dict(zip(_TAGS, torch.sigmoid(logits.float()).tolist(), strict=True))


def extremes(run: Run, split: str, right: bool) -> Table:
    """The ten most confident right or wrong answers, with the influence of each word."""
    evaluation, encoder = run.evaluations[split], run.data.encoder
    chosen = evaluation.extremes(10, right)
    ids = evaluation.ids[chosen].int()  # (N, T)
    influence = influences(run.net, ids.to(run.net.head.weight.device)).cpu()  # (N, T)
    rows: list[list[str | Words]] = []
    for index, position in enumerate(chosen):
        text = run.data.splits[split].text(int(evaluation.rows[position]))
        label = ("neg", "pos")[int(evaluation.labels[position])]
        probability = f"{evaluation.probabilities[position]:.3f}"
        rows.append([label, probability, _words(encoder, text, ids[index], influence[index]), text])
    return Table(["label", "positive", "words read, by influence", "end of the text"], rows)


def _words(encoder: TextEncoder, text: str, ids: Tensor, influence: Tensor) -> Words:
    """Every word of a review that the network reads, with its influence.

    Words come from the text, since an id cannot say which unknown word it stands for; `text` may be
    shorter than what was read, and then the vocabulary fills in.
    """
    read = [encoder.vocabulary[i] for i in ids.tolist() if i != PAD_ID]
    tokens = encoder.tokens(text)[-len(read) :] if read else []
    words = [*read[: len(read) - len(tokens)], *tokens]
    return list(zip(words, influence[len(influence) - len(words) :].tolist(), strict=True))
