"""Judging one's own reviews: the `predict` command on files, standard input and texts."""

import json
import os
import select
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from child import start
from conftest import Run, Trained, error_line, make_reviews
from prepared import data_of, texts_of

import lit_imdb

# A null, an empty and a wordless review among others; more rows than one step takes.
TEXTS: list[str | None] = [
    *("a great film", None, "awful, boring plot", "", "...", "lovely zebra"),
    *(text for text, _ in make_reviews(300)),
]


@pytest.fixture
def predict(run: Run, best: Path) -> Run:
    """Runs `predict` with the tiny checkpoint."""
    return lambda *args: run("predict", "--ckpt_path", best, *args)


@pytest.mark.parametrize(
    ("given", "wanted", "read"),
    [
        ("in.csv.gz", "out.jsonl", partial(pandas.read_json, lines=True)),
        ("in.jsonl.gz", "out.parquet", pandas.read_parquet),
        ("in.parquet", "out.csv", pandas.read_csv),
        ("in.txt", "out.csv", pandas.read_csv),
    ],
)
def test_every_row_comes_back_in_order_with_its_columns(
    given: str, wanted: str, read: Callable[[str], pandas.DataFrame], predict: Run, best: Path
) -> None:
    rows = pandas.DataFrame({"id": range(len(TEXTS)), "text": TEXTS})
    rows.to_csv("in.csv.gz", index=False)
    rows.to_json("in.jsonl.gz", orient="records", lines=True)
    rows.to_parquet("in.parquet", index=False)
    Path("in.txt").write_text("".join(f"{text or ''}\n" for text in TEXTS))
    done = predict(given, "--output", wanted)
    classifier = lit_imdb.load(best)
    counts = f"reviews: 606, without an answer: 3 -> {wanted}"
    assert (done.out, done.err) == ("", f"{counts}\n{classifier.origin}\n")
    own = rows[["text"]] if given == "in.txt" else rows
    expected, found = (
        frame.astype(object).where(frame.notna(), "")  # an empty cell is NaN, None or ""
        for frame in (own.join(pandas.DataFrame(classifier.predict(TEXTS))), read(wanted))
    )
    pandas.testing.assert_frame_equal(found, expected, rtol=0, atol=1e-5)
    assert not list(Path().glob(".*"))


def test_parquet_keeps_its_column_types(predict: Run) -> None:
    ids, stars = pa.array([1, 2], pa.int16()), pa.array([None, 2.5], pa.float32())
    table = pa.table({"id": ids, "stars": stars, "text": ["a great film", "a dull film"]})
    pq.write_table(table, Path("in.parquet"))
    predict("in.parquet", "--output", "out.parquet")
    assert pq.read_table(Path("out.parquet")).select(table.column_names) == table


def test_a_folder_gives_a_row_for_each_text_file(predict: Run) -> None:
    Path("reviews").mkdir()
    found = {"a.txt": "great", "b.txt": "two\nlines"}
    for name, text in {"c.md": "no review", **found, "._a.txt": "of macOS"}.items():
        Path("reviews", name).write_text(text)
    rows = [json.loads(line) for line in predict("reviews").out.splitlines()]
    assert [(row["file"], row["text"]) for row in rows] == list(found.items())


def test_another_column_and_another_encoding_and_a_column_called_label(predict: Run) -> None:
    Path("in.csv").write_text("review;label\nCaf\xe9 was great;0\n;\n", "cp1252")
    done = predict("in.csv", "--text_column", "review", "--encoding", "cp1252")
    first, second = (json.loads(line) for line in done.out.splitlines())  # a row for each row
    assert (first["review"], second["review"]) == ("Caf\xe9 was great", "")
    assert (first["label"], first["predicted_label"]) == ("0", "pos")


def test_texts_are_answered_with_the_words_that_moved_them(predict: Run, best: Path) -> None:
    texts = ["A <b>lovely</b> film", "[red]awful \x1b[31m", "zebra", " "]
    done = predict(*(part for text in texts for part in ("--text", text)))
    first, read, moved, second, cleaned, _, unknown, empty = done.out.splitlines()
    lovely, awful, *_ = lit_imdb.load(best).predict(texts)
    assert first.startswith(f"{lovely.label} (positive: {lovely.probability:.1%})")
    assert read == "  read:  a b lovely b film"
    assert moved.startswith("  moved: ")
    assert second.startswith(f"{awful.label} (positive: {awful.probability:.1%})")
    assert cleaned == "  read:  red awful ? 31m"
    assert "\x1b" not in done.out
    assert unknown == "no answer: no known word to read"
    assert empty == "no answer: empty review: no word to read"


def test_a_checkpoint_has_the_accuracy_of_its_own_weights(run: Run, trained: Trained) -> None:
    checkpoint = torch.load(trained.run / "checkpoints/last.ckpt", weights_only=True)
    accuracies = [{"step": 9, "val/acc": 0.9}, {"step": 18, "val/acc": 0.51}]
    checkpoint["callbacks"]["History"]["validations"] = accuracies
    for step, accuracy in ((18, "51.0% (warning: close to guessing)"), (20, "unknown")):
        torch.save({**checkpoint, "global_step": step}, "last.ckpt")
        done = run("predict", "--text", "good", "--ckpt_path", "last.ckpt")
        assert done.err == f"model: last.ckpt, validation accuracy {accuracy}\n"


MISTAKES = {
    "": "expected a file or texts",
    "gone.csv": "no file gone.csv",
    "great" * 60: "predict --text great",  # longer than a name may be
    "in.txt --output out.xlsx": "'.xlsx'",
    "in.txt --output no/o.csv": "no/o.csv: No such file",
    "in.txt --device gpu0": "no device gpu0",
    "folder --text_column body": "--text_column body: folder has no columns",
    "- --text_column body": "--text_column body: - has no columns",
    "folder": "in .txt files",
    "links": "links/a.txt is not a file (links are not followed)",
    "empty.csv": "expected at least one review",
    # found when 512 rows are written already
    "more.jsonl --output out.csv": "(dict contains fields not in fieldnames: 'stars')",
}


@pytest.mark.parametrize("typed", MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing(
    typed: str, predict: Run, workspace: Path
) -> None:
    for name in ("folder", "links"):
        Path(name).mkdir()
    Path("links/a.txt").symlink_to("/etc/hostname")
    Path("in.txt").write_text("good\n")
    Path("empty.csv").write_text("text\n")
    Path("more.jsonl").write_text('{"text": "good"}\n' * 600 + '{"text": "bad", "stars": 1}\n')
    before = set(workspace.iterdir())
    done = predict(*typed.split())
    assert done.out == ""
    assert MISTAKES[typed] in error_line(done)
    assert set(workspace.iterdir()) == before


def test_answers_appear_while_standard_input_is_still_open(best: Path) -> None:
    child = start("predict", "--ckpt_path", best, "-")
    child.stdin.write(b"a great film\n" * 512)
    child.stdin.flush()
    assert select.select([child.stdout], [], [], 60)[0]
    first = child.stdout.readline()
    child.stdin.write(b"the last one")
    child.stdin.close()
    texts = [json.loads(line)["text"] for line in (first, *child.stdout)]
    assert texts == ["a great film"] * 512 + ["the last one"]
    assert child.status() == 0


def test_a_closed_pipe_is_no_error(best: Path) -> None:
    Path("in.txt").write_text("a great film\n" * 5000)
    child = start("predict", "--ckpt_path", best, "in.txt")
    child.stdout.readline()
    child.stdout.close()
    assert (child.stderr.read(), child.status()) == ("", 128 + signal.SIGPIPE)


@pytest.mark.parametrize(
    ("number", "status", "said"),
    [
        (signal.SIGINT, 130, "stopped by Ctrl-C\n"),
        (signal.SIGTERM, 143, "stopped by SIGTERM\n"),
        (signal.SIGKILL, -signal.SIGKILL, ""),
    ],
)
def test_a_signal_leaves_no_output(number: int, status: int, said: str, best: Path) -> None:
    os.mkfifo("in.txt")  # it never ends
    child = start("predict", "--ckpt_path", best, "in.txt", "--output", "out.csv")
    temporary, deadline = Path(".out.csv.tmp"), time.monotonic() + 60
    with open("in.txt", "w") as reviews:
        reviews.write("a great film\n" * 5000)
        reviews.flush()
        while not temporary.exists() or not temporary.stat().st_size:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.killpg(child.process.pid or 0, number)
        assert (child.status(), child.stderr.read()) == (status, said)
    assert not Path("out.csv").exists()
    assert temporary.exists() == (number == signal.SIGKILL)


def test_stream_reads_no_further_than_it_answers(best: Path) -> None:
    read: list[str] = []
    texts = (read.append(text) or text for text, _ in make_reviews(600))
    answers = lit_imdb.load(best).stream(texts)
    next(answers)
    assert len(read) == 1024
    assert len(list(answers)) == 1199


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # Lightning 2.6 under torch 2.13
def test_trainer_predict_gives_probabilities_of_the_test_reviews(corpus: Path) -> None:
    from pytorch_lightning import Trainer

    data = data_of(corpus)
    model = lit_imdb.LitSentiment(vocab_size=60, embedding_dim=8, hidden_dim=8)
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    probabilities = torch.cat(trainer.predict(model, data)).tolist()
    classifier = lit_imdb.SentimentClassifier(model.net, data.encoder)
    expected = classifier.predict([text for text, _ in texts_of(corpus)["test"]])
    assert probabilities == pytest.approx([one.probability for one in expected])
