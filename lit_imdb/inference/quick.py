"""A quick look at some texts: the answers, and the words that moved them."""

from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from lit_imdb.inference.classifier import SentimentClassifier

_COLOURS = {True: "green", False: "red"}
_STRONGEST = 5


def show(classifier: SentimentClassifier, texts: Iterable[str]) -> None:
    """Prints, for each text, the answer, the words read and those with the most influence.

    Green words speak for `pos`, red ones for `neg`. Without a terminal, or with NO_COLOR set, the
    same comes without colours.
    """
    console = Console(highlight=False)
    for text in texts:
        (answer,) = classifier.predict(text)
        if answer.probability is None:
            console.print(Text(answer.reason), soft_wrap=True)
            continue
        words = [(_printable(word), value) for word, value in classifier.explain(text)]
        most = max(abs(value) for _, value in words) or 1.0
        read = Text(" ").join(Text(w, _style(value, most)) for w, value in words)
        strongest = sorted(words, key=lambda pair: -abs(pair[1]))[:_STRONGEST]
        moved = Text(", ").join(
            Text(f"{word} {value:+.2f}", _style(value, most)) for word, value in strongest
        )
        console.print(
            Text(answer.label, f"bold {_COLOURS[answer.label == 'pos']}"),
            f"{answer.probability:.4f}, {answer.unknown_words:.0%} unknown words",
        )
        console.print(Text("  read:  ") + read, soft_wrap=True)
        console.print(Text("  moved: ") + moved, soft_wrap=True)


def _style(influence: float, most: float) -> str:
    """Bold from a half, plain below a tenth of the greatest influence in the text."""
    share = abs(influence) / most
    if share < 0.1:
        return ""
    return f"{'bold ' if share > 0.5 else ''}{_COLOURS[influence > 0]}"


def _printable(word: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in word)
