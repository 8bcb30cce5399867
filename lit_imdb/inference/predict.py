"""`python train.py predict`: labels for a user's own reviews."""

import sys
import time

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from lit_imdb.errors import UserError
from lit_imdb.inference.answers import open_answers
from lit_imdb.inference.classifier import SentimentClassifier, load
from lit_imdb.inference.inputs import Input, read_ahead

_COLOURS = {True: "green", False: "red"}
_STRONGEST = 5  # words that are listed with their influence


def predict(
    file: str | None = None,
    text: list[str] | None = None,
    output: str | None = None,
    text_column: str = "text",
    encoding: str = "utf-8",
    ckpt_path: str = "best",
    device: str = "auto",
) -> None:
    """Label reviews with a trained model.

    Args:
        file: A .csv, .tsv, .jsonl, .parquet or .txt file (one review per line), a folder of .txt
            files, or - for standard input (one review per line).
        text: A review to label instead of a file; may be repeated.
        output: The .csv, .jsonl or .parquet file to write; JSON lines on standard output if not
            given. A row keeps its columns and gains label, probability, unknown_words and reason.
        text_column: The column that holds the review.
        encoding: Of text files: utf-8, utf-16 or cp1252 for example.
        ckpt_path: `best` or `last` of the newest run, or a checkpoint file.
        device: Where to compute: cpu, cuda, or auto for a GPU where there is one.

    Raises:
        UserError: Neither or both of file and text, or something that cannot be read or written.
    """
    if (file is None) == (not text):
        raise UserError(
            "expected a file or texts: `python train.py predict reviews.csv`, "
            '`python train.py predict --text "I loved it"` or - for standard input'
        )
    # one core reads and tokenises; a second thread for the network would only be in its way
    torch.set_num_threads(1)
    classifier = load(ckpt_path, device)
    if file is not None:
        _label_file(classifier, Input(file, classifier.encoder, text_column, encoding), output)
    for one in text or ():
        _show(classifier, one)
    classifier.origin.report()


def _label_file(classifier: SentimentClassifier, reviews: Input, output: str | None) -> None:
    start = time.perf_counter()

    def rate() -> str:
        return f"{answers.written / (time.perf_counter() - start):,.0f}/s"

    with open_answers(output, reviews.path) as answers, _bar(output is not None) as bar:
        task = bar.add_task("predicting", total=None)
        for block in read_ahead(reviews):
            answers.write(block.rows, classifier.predict_ids(block.ids))
            bar.update(
                task,
                description=f"{answers.written:,} reviews, {rate()}",
                total=None if block.done is None else 1.0,
                completed=block.done or 0.0,
            )
    if output is not None:
        without = f", {answers.unanswered:,} of them without an answer" * bool(answers.unanswered)
        print(f"{answers.written:,} reviews{without} -> {output} ({rate()})", file=sys.stderr)


def _bar(into_file: bool) -> Progress:
    """A progress bar on standard error, if that is a terminal without the answers on it."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeRemainingColumn(),
        console=console,
        redirect_stdout=False,
        redirect_stderr=False,
        transient=True,
        disable=not console.is_terminal or not (into_file or not sys.stdout.isatty()),
    )


def _show(classifier: SentimentClassifier, text: str) -> None:
    """Print the answer for a text, the words read and those with the most influence.

    Green words speak for `pos`, red ones for `neg`, where the terminal has colours.
    """
    console = Console(highlight=False)
    answer, influences = classifier.predict_and_explain(text)
    words = [(_printable(word), value) for word, value in influences]
    most = max((abs(value) for _, value in words), default=0) or 1.0
    read = Text(" ").join(Text(word, _style(value, most)) for word, value in words)
    if answer.probability is None:
        console.print(f"no answer: {answer.reason}", soft_wrap=True)
        return
    strongest = sorted(words, key=lambda pair: -abs(pair[1]))[:_STRONGEST]
    moved = Text(", ").join(Text(f"{w} {v:+.2f}", _style(v, most)) for w, v in strongest)
    label = Text(answer.label, f"bold {_COLOURS[answer.label == 'pos']}")
    unknown = f", {answer.unknown_words:.0%} unknown words" if answer.unknown_words else ""
    console.print(label + Text(f" (positive: {100 * answer.probability:.1f} %){unknown}"))
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
