"""Tables of reviews: the surest mistakes, and hand-written sentences.

Shapes: T tokens, N chosen reviews.
"""

import torch

from lit_imdb.model.attribution import influences
from lit_imdb.report.evaluation import Run
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


def sentences(run: Run) -> Table:
    ids = torch.from_numpy(run.data.encoder.encode([text for *_, text in SENTENCES])).int()
    with torch.no_grad():
        logits = run.net(ids.to(run.net.head.weight.device), [None] * len(run.net.cells))
    rows = [
        [kind, label, f"{probability:.0%}", text]
        for (kind, label, text), probability in zip(
            SENTENCES, torch.sigmoid(logits.float()).tolist(), strict=True
        )
    ]
    return Table(["kind", "label", "positive", "text"], rows)


def mistakes(run: Run, split: str) -> Table:
    """Return the surest wrong answers, with the influence of each word."""
    evaluation = run.evaluations[split]
    chosen = evaluation.mistakes()
    ids = evaluation.ids[chosen].int()  # (N, T)
    influence = influences(run.net, ids.to(run.net.head.weight.device)).cpu()  # (N, T)
    rows: list[list[str | Words]] = []
    for index, place in enumerate(chosen):
        text = evaluation.part.text(int(evaluation.rows[place]))
        label = ("neg", "pos")[int(evaluation.labels[place])]
        tokens = run.data.encoder.tokens(text)  # of the text: it has the unknown words too
        words = list(zip(tokens, influence[index, -len(tokens) :].tolist(), strict=False))
        rows.append([label, f"{evaluation.probabilities[place]:.3f}", words, text])
    return Table(["label", "positive", "words read, by influence", "end of the text"], rows)
