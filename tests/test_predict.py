"""Judging one's own reviews: the `predict` command on files, standard input and texts."""

import json
import os
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
from conftest import Run, Trained, error_line, make_reviews, results_of
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
    given: str,
    wanted: str,
    read: Callable[[str], pandas.DataFrame],
    predict: Run,
    best: Path,
    trained: Trained,
) -> None:
    rows = pandas.DataFrame({"id": range(len(TEXTS)), "text": TEXTS})
    rows.to_csv("in.csv.gz", index=False)
    rows.to_json("in.jsonl.gz", orient="records", lines=True)
    rows.to_parquet("in.parquet", index=False)
    Path("in.txt").write_text("".join(f"{text or ''}\n" for text in TEXTS))
    done = predict(given, "--output", wanted)
    assert done.out == ""
    accuracy = 100 * results_of(trained.run)["val_acc"]
    assert done.err.splitlines() == [
        f"reviews: 606, without an answer: 3 -> {wanted}",
        f"model: {best}, validation accuracy {accuracy:.1f}%",
    ]
    answers = pandas.DataFrame(lit_imdb.load(best).predict(TEXTS))
    own = rows[["text"]] if given == "in.txt" else rows
    expected, found = (
        frame.astype(object).where(frame.notna(), "")  # an empty cell is NaN, None or ""
        for frame in (own.join(answers), read(wanted))
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
    for name, text in {"c.md": "no review", **found}.items():
        Path("reviews", name).write_text(text)
    Path("reviews/._a.txt").write_bytes(b"\xff")  # macOS leaves such files
    rows = [json.loads(line) for line in predict("reviews").out.splitlines()]
    assert [(row["file"], row["text"]) for row in rows] == list(found.items())


def test_another_column_and_another_encoding_and_a_column_called_label(predict: Run) -> None:
    text = "review;label\nCaf\xe9 was great;0\n;\n"
    Path("in.csv").write_bytes(text.encode("cp1252"))
    done = predict("in.csv", "--text_column", "review", "--encoding", "cp1252")
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert [row["review"] for row in rows] == ["Caf\xe9 was great", ""]  # a row for each row
    assert (rows[0]["label"], rows[0]["predicted_label"]) == ("0", "pos")
    Path("in.csv").write_bytes(text.encode("utf-16"))
    assert predict("in.csv", "--text_column", "review").out == done.out


def test_texts_are_answered_with_the_words_that_moved_them(predict: Run, best: Path) -> None:
    texts = ["A <b>lovely</b> film", "[red]awful\x1b[31m", "zebra", " "]
    done = predict(*(part for text in texts for part in ("--text", text)))
    lines = done.out.splitlines()
    lovely, awful, *_ = lit_imdb.load(best).predict(texts)
    assert lovely.probability
    assert lines[0].startswith(f"{lovely.label} (positive: {lovely.probability:.1%})")
    assert lines[1] == "  read:  a b lovely b film"
    assert lines[2].startswith("  moved: ")
    assert lines[3].startswith(awful.label)
    assert "\x1b" not in done.out
    assert lines[-2:] == [
        "no answer: no known word to read",
        "no answer: empty review: no word to read",
    ]


def test_a_checkpoint_has_the_accuracy_of_its_own_weights(run: Run, trained: Trained) -> None:
    checkpoint = torch.load(trained.run / "checkpoints/last.ckpt", weights_only=True)
    accuracies = [{"step": 9, "val/acc": 0.9}, {"step": 18, "val/acc": 0.51}]
    checkpoint["callbacks"]["History"]["validations"] = accuracies

    def said(step: int) -> str:
        torch.save({**checkpoint, "global_step": step}, "last.ckpt")
        return run("predict", "--text", "good", "--ckpt_path", "last.ckpt").err

    weak = "model: last.ckpt, validation accuracy 51.0% (warning: close to guessing)\n"
    assert said(18) == weak
    assert said(20) == "model: last.ckpt, validation accuracy unknown\n"  # trained further


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
    "empty.csv": "expected at least one review",
    "other.csv": "data row 1: expected a text in the column 'text'",
    # found when 512 rows are written already
    "more.jsonl --output out.csv": "(dict contains fields not in fieldnames: 'stars')",
}


@pytest.mark.parametrize("typed", MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing(
    typed: str, predict: Run, workspace: Path
) -> None:
    Path("folder").mkdir()
    Path("in.txt").write_text("good\n")
    Path("empty.csv").write_text("text\n")
    Path("other.csv").write_text("id,review\n1,good\n")
    Path("more.jsonl").write_text('{"text": "good"}\n' * 600 + '{"text": "bad", "stars": 1}\n')
    before = set(workspace.iterdir())
    done = predict(*typed.split())
    assert done.out == ""
    assert MISTAKES[typed] in error_line(done)
    assert "Traceback" not in done.err  # of the process that reads
    assert set(workspace.iterdir()) == before


def test_answers_appear_while_standard_input_is_still_open(best: Path) -> None:
    child = start("predict", "--ckpt_path", best, "-")
    child.stdin.write(b"a great film\n" * 512)
    child.stdin.flush()
    assert json.loads(child.stdout.readline())["text"] == "a great film"
    child.stdin.write(b"the last one")
    child.stdin.close()
    lines = child.stdout.read().splitlines()  # all but the first
    assert child.status() == 0
    assert child.stderr.read().startswith("model: ")
    assert len(lines) == 512
    assert json.loads(lines[-1])["text"] == "the last one"


def test_a_closed_pipe_is_no_error(best: Path) -> None:
    Path("in.txt").write_text("a great film\n" * 5000)
    child = start("predict", "--ckpt_path", best, "in.txt")
    child.stdout.readline()
    child.stdout.close()
    assert child.stderr.read() == ""
    assert child.status() == 128 + signal.SIGPIPE


@pytest.mark.parametrize("name", ["Ctrl-C", "SIGTERM", "SIGKILL"])
def test_a_signal_leaves_no_output(name: str, best: Path) -> None:
    signum = signal.SIGINT if name == "Ctrl-C" else signal.Signals[name]
    os.mkfifo("in.txt")  # it never ends
    child = start("predict", "--ckpt_path", best, "in.txt", "--output", "out.csv")
    temporary, deadline = Path(".out.csv.tmp"), time.monotonic() + 60
    with open("in.txt", "w") as reviews:
        reviews.write("a great film\n" * 5000)
        reviews.flush()
        while not temporary.exists() or not temporary.stat().st_size:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.killpg(child.process.pid or 0, signum)
        status, err = child.status(), child.stderr.read()
    assert not Path("out.csv").exists()
    if name != "SIGKILL":
        assert (status, err) == (128 + signum, f"stopped by {name}\n")
        assert not temporary.exists()


def test_stream_reads_no_further_than_it_answers(best: Path) -> None:
    classifier = lit_imdb.load(best)
    read: list[str] = []
    texts = (read.append(text) or text for text, _ in make_reviews(600))
    answers = classifier.stream(texts)
    assert next(answers) == classifier.predict(make_reviews(600)[0][0])[0]
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
