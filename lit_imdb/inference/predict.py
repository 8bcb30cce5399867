"""`python train.py predict`: labels for a user's own reviews."""

import os
import shlex
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch
from rich.console import Console

from lit_imdb.data.tables import Row
from lit_imdb.errors import UserError
from lit_imdb.inference.classifier import Prediction, SentimentClassifier, load
from lit_imdb.inference.inputs import Input, read_ahead
from lit_imdb.inference.outputs import write_answers

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
        file: A .csv, .tsv, .jsonl, .parquet or .txt file (one review per line), the text ones
            also as .gz, a folder of .txt files, or - for standard input (one review per line).
        text: A review to label instead of a file; may be repeated.
        output: The .csv, .jsonl or .parquet file to write; JSON lines on standard output if not
            given. A row keeps its columns and gains label, probability, unknown_words and reason.
        text_column: The column that holds the review.
        encoding: Of text files without a byte order mark: utf-8 or cp1252 for example.
        ckpt_path: `best`, the newest there is, `last` of the newest run, or a file.
        device: Where to compute: cpu, cuda, or auto for a GPU where there is one.

    Raises:
        UserError: Neither or both of file and text, or something that cannot be read or written.
    """
    if (file is None) == (not text):
        raise UserError("expected a file or texts: `python train.py predict FILE` or --text TEXT")
    # os.path's exists: pathlib's raises for a text that is too long for a name
    if file is not None and file != "-" and not os.path.exists(file):
        typed = shlex.quote(file)
        raise UserError(f"no file {file}; for a text `python train.py predict --text {typed}`")
    # one core reads and tokenises; a second thread for the network would only be in its way
    torch.set_num_threads(1)
    classifier = load(ckpt_path, device)
    if file is not None:
        _label_file(classifier, Input(file, classifier.encoder, text_column, encoding), output)
    for one in text or ():
        _show(classifier, one)
    print(classifier.origin, file=sys.stderr)


def _label_file(classifier: SentimentClassifier, reviews: Input, output: str | None) -> None:
    labels: Counter[str] = Counter()

    def blocks() -> Iterator[tuple[list[Row], list[Prediction]]]:
        for rows, ids in read_ahead(reviews):
            answers = classifier.predict_ids(ids)
            yield rows, answers
            labels.update(answer.label for answer in answers)
            status.update(f"{labels.total():,} reviews")

    with Console(stderr=True, quiet=output is None).status("") as status:
        write_answers(blocks(), output, Path(reviews.path))
    if output is not None:
        counts = f"reviews: {labels.total():,}, without an answer: {labels['']:,}"
        print(f"{counts} -> {output}", file=sys.stderr)


def _show(classifier: SentimentClassifier, text: str) -> None:
    """Print the answer for a text, the words read and those with the most influence."""
    (answer,) = classifier.predict(text)
    if answer.probability is None:
        print(f"no answer: {answer.reason}")
        return
    words = [
        ("".join(c if c.isprintable() else "?" for c in word), value)
        for word, value in classifier.explain(text)
    ]
    strongest = sorted(words, key=lambda pair: -abs(pair[1]))[:_STRONGEST]
    unknown = f", {answer.unknown_words:.0%} unknown words" if answer.unknown_words else ""
    print(f"{answer.label} (positive: {answer.probability:.1%}){unknown}")
    print(f"  read:  {' '.join(word for word, _ in words)}")
    print(f"  moved: {', '.join(f'{word} {value:+.2f}' for word, value in strongest)}")
