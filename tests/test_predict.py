"""Judging one's own reviews: the `predict` command on files, standard input and texts."""

import csv
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from child import start
from conftest import Run, Trained, error_line, make_reviews, results_of
from prepared import texts_of

import lit_imdb

# A null, an empty and a word-less review among others; more rows than one step takes.
TEXTS: list[str | None] = [
    *("a great film", None, "awful, boring plot", "", "...", "lovely zebra"),
    *(text for text, _ in make_reviews(300)),
]
EMPTY = [1, 3, 4]
NAMES = ["label", "probability", "unknown_words", "reason"]


@pytest.fixture
def predict(run: Run, best: Path) -> Run:
    """Runs `predict` with the tiny checkpoint."""
    return lambda *args: run("predict", "--ckpt_path", best, *args)


def write(path: Path, texts: list[str | None]) -> Path:
    frame = pandas.DataFrame({"id": range(len(texts)), "text": texts})
    ending = path.name.removesuffix(".gz").rpartition(".")[2]
    if ending == "jsonl":
        frame.to_json(path, orient="records", lines=True)
    elif ending == "parquet":
        frame.to_parquet(path, index=False)
    elif ending == "txt":
        path.write_text("".join(f"{text or ''}\n" for text in texts))
    else:
        frame.to_csv(path, sep="\t" if ending == "tsv" else ",", index=False)
    return path


def read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    with path.open(newline="") as file:
        return [*map(json.loads, file)] if path.suffix == ".jsonl" else [*csv.DictReader(file)]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("in.csv.gz", "out.jsonl"),
        ("in.jsonl.gz", "out.parquet"),
        ("in.parquet", "out.csv"),
        ("in.txt", "out.jsonl"),
    ],
)
def test_every_row_comes_back_in_order_with_its_columns(
    given: str, wanted: str, predict: Run, best: Path, workspace: Path
) -> None:
    source = write(workspace / given, TEXTS)
    done = predict(source, "--output", wanted)
    assert (done.status, done.out) == (0, ""), done
    assert f"606 reviews, 3 of them without an answer -> {wanted}" in done.err
    rows = read(workspace / wanted)
    own = ["text"] if given == "in.txt" else ["id", "text"]
    assert [list(row) for row in rows] == [own + NAMES] * len(TEXTS)
    assert [row["text"] or "" for row in rows] == [text or "" for text in TEXTS]
    answers = lit_imdb.load(best).predict(TEXTS)
    for number, (row, answer) in enumerate(zip(rows, answers, strict=True)):
        assert row["label"] == answer.label
        assert [not row["label"], bool(row["reason"])] == [number in EMPTY] * 2
        if number in EMPTY:
            assert row["probability"] in ("", None)
        else:
            assert float(row["probability"]) == pytest.approx(answer.probability, abs=1e-5)
    assert float(rows[5]["unknown_words"]) == pytest.approx(0.5)  # "zebra" of "lovely zebra"
    assert not list(workspace.glob(".*"))


def test_parquet_keeps_its_column_types(predict: Run) -> None:
    table = pa.table(
        {
            "id": pa.array([1, 2], pa.int16()),
            "stars": pa.array([None, 2.5], pa.float32()),
            "text": ["a great film", "a dull film"],
        }
    )
    pq.write_table(table, Path("in.parquet"))
    done = predict("in.parquet", "--output", "out.parquet")
    assert done.status == 0, done
    assert pq.read_table(Path("out.parquet")).select(table.column_names) == table


def test_a_column_called_label_is_kept(predict: Run) -> None:
    Path("in.jsonl").write_text('{"text": "a great film", "label": 0}\n')
    done = predict("in.jsonl")
    row = json.loads(done.out)
    assert row["label"] == 0
    assert row["predicted_label"] in ("neg", "pos")


def test_a_folder_gives_a_row_for_each_text_file(predict: Run) -> None:
    Path("reviews").mkdir()
    for name, text in (("b.txt", "two\nlines"), ("a.txt", "great"), ("c.md", "no review")):
        (Path("reviews") / name).write_text(text)
    Path("reviews/._a.txt").write_bytes(b"\xff")  # macOS leaves such files
    rows = [json.loads(line) for line in predict("reviews").out.splitlines()]
    assert [(row["file"], row["text"]) for row in rows] == [
        ("a.txt", "great"),
        ("b.txt", "two\nlines"),
    ]


def test_another_column_and_another_encoding(predict: Run) -> None:
    text = "review;stars\nCaf\xe9 was great;\n;\n"
    Path("in.csv").write_bytes(text.encode("cp1252"))
    done = predict("in.csv", "--text_column", "review", "--encoding", "cp1252")
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert [row["review"] for row in rows] == ["Caf\xe9 was great", ""]  # a row for each row
    Path("in.csv").write_bytes(text.encode("utf-16"))
    assert predict("in.csv", "--text_column", "review").out == done.out


def test_texts_are_answered_with_the_words_that_moved_them(predict: Run, best: Path) -> None:
    texts = ["A <b>lovely</b> film", "[red]awful\x1b[31m", "zebra", " "]
    done = predict(*(part for text in texts for part in ("--text", text)))
    assert done.status == 0, done
    lines = done.out.splitlines()
    lovely, awful, *_ = lit_imdb.load(best).predict(texts)
    assert lovely.probability is not None
    assert lines[0].startswith(f"{lovely.label} (positive: {100 * lovely.probability:.1f} %)")
    assert lines[1] == "  read:  a b lovely b film"
    assert lines[2].startswith("  moved: ")
    assert lines[3].startswith(awful.label)
    assert "\x1b" not in done.out
    assert lines[-2:] == [
        "no answer: no known word to read",
        "no answer: empty review: no word to read",
    ]


def test_the_model_is_named_with_its_validation_accuracy(
    predict: Run, trained: Trained, best: Path
) -> None:
    accuracy = 100 * results_of(trained.run)["val_acc"]
    Path("in.txt").write_text("a great film\n")
    for args in (["--text", "good"], ["in.txt"]):
        assert predict(*args).err == f"model: {best}, validation accuracy {accuracy:.1f} %\n"


def test_a_checkpoint_has_the_accuracy_of_its_own_weights(run: Run, trained: Trained) -> None:
    checkpoint = torch.load(trained.run / "checkpoints/last.ckpt", weights_only=True)
    (history,) = (one for one in checkpoint["callbacks"].values() if "validations" in one)
    history["validations"] = [{"epoch": 1.0, "val/acc": 0.9}, {"epoch": 2.0, "val/acc": 0.51}]

    def said(epoch: int) -> list[str]:
        torch.save({**checkpoint, "epoch": epoch}, "last.ckpt")
        return run("predict", "--text", "good", "--ckpt_path", "last.ckpt").err.splitlines()

    after_second, within_third = said(1), said(2)
    assert after_second[0] == "model: last.ckpt, validation accuracy 51.0 %"
    assert after_second[1].startswith("warning: this model is close to guessing")
    assert within_third == ["model: last.ckpt, validation accuracy unknown"]


MISTAKES: dict[str, tuple[str, bytes]] = {
    "data row 1: expected a text in the column 'text'": ("in.csv", b"id,review\n1,good\n"),
    "row 2: expected a text in the column 'text'": ("in.jsonl", b'{"text": "a"}\n{"text": 5}\n'),
    "line 2: broken JSON": ("in.jsonl", b'{"text": "good"}\n{"text": \n'),
    "expected at least one review": ("in.csv", b"text\n"),
    "unknown ending '.doc'": ("in.doc", b"good"),
    "(dict contains fields not in fieldnames: 'stars')": (
        "in.jsonl",
        b'{"text": "good"}\n' * 600 + b'{"text": "bad", "stars": 1}\n',
    ),
}


@pytest.mark.parametrize("message", MISTAKES)
def test_bad_input_is_one_line_and_leaves_nothing(
    message: str, predict: Run, workspace: Path
) -> None:
    name, content = MISTAKES[message]
    (workspace / name).write_bytes(content)
    done = predict(name, "--output", "out.csv")
    assert done.out == ""
    assert message in error_line(done)
    assert [path.name for path in workspace.iterdir()] == [name]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "expected a file or texts"),
        (["gone.csv"], "no file gone.csv"),
        (["in.txt", "--output", "out.xlsx"], "'.xlsx'"),
        (["in.txt", "--output", "no/o.csv"], "no/o.csv: No such file"),
        (["in.txt", "--device", "gpu0"], "device gpu0"),
        (["folder", "--text_column", "body"], "--text_column body: folder has no columns"),
        (["-", "--text_column", "body"], "--text_column body: - has no columns"),
        (["folder"], "in .txt files"),
    ],
)
def test_bad_arguments_are_one_line(args: list[str], message: str, predict: Run) -> None:
    Path("in.txt").write_text("good\n")
    Path("folder").mkdir()
    assert message in error_line(predict(*args))


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
    source = write(Path("in.txt"), ["a great film"] * 5000)
    child = start("predict", "--ckpt_path", best, source)
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
    texts = (read.append(text) or text for text, _ in make_reviews(50))
    answers = classifier.stream(texts, batch_size=2)
    assert next(answers) == classifier.predict(make_reviews(50)[0][0])[0]
    assert len(read) == 2
    assert len(list(answers)) == 99


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # Lightning 2.6 under torch 2.13
def test_trainer_predict_gives_probabilities_of_the_test_reviews(
    trained: Trained, best: Path
) -> None:
    from pytorch_lightning import Trainer

    data = lit_imdb.ImdbDataModule(str(trained.corpus), vocab_size=60, max_length=8, batch_size=16)
    data.prepare_data()
    data.setup("predict")
    classifier = lit_imdb.load(best)
    model = lit_imdb.LitSentiment(vocab_size=60, embedding_dim=8, hidden_dim=8)
    model.net.load_state_dict(classifier.net.state_dict())
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    batches = trainer.predict(model, data)
    expected = classifier.predict([text for text, _ in texts_of(trained.corpus)["test"]])
    assert torch.cat(batches).tolist() == pytest.approx([one.probability for one in expected])
