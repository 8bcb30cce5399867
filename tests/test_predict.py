"""Judging one's own reviews: the `predict` command on files, standard input and texts."""

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT, Output, Trained, make_reviews, results_of, run_script
from prepared import texts_of

import lit_imdb
from lit_imdb.errors import UserError

Run = Callable[..., Output]

# A null, an empty and a word-less review among others; more rows than one step takes.
TEXTS: list[str | None] = [
    *("a great film", None, "awful, boring plot", "", "...", "lovely zebra"),
    *(text for text, _ in make_reviews(300)),
]
EMPTY = [1, 3, 4]
NAMES = ["label", "probability", "unknown_words", "reason"]


@pytest.fixture
def predict(run: Run, trained: Trained) -> Run:
    """Runs `predict` with the tiny checkpoint."""
    ckpt = trained.run / "checkpoints/best.ckpt"
    return lambda *args: run("predict", "--ckpt_path", ckpt, *args)


def write(path: Path, texts: list[str | None]) -> Path:
    rows = [{"id": number, "text": text} for number, text in enumerate(texts)]
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".txt":
        path.write_text("".join(f"{text or ''}\n" for text in texts))
    elif path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(
                file, ["id", "text"], delimiter="\t" if path.suffix == ".tsv" else ","
            )
            writer.writeheader()
            writer.writerows(rows)
    return path


def read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
        return rows
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def probabilities(rows: list[dict[str, Any]]) -> list[float | None]:
    return [
        float(row["probability"]) if row["probability"] not in ("", None) else None for row in rows
    ]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        *(("in.csv", f"out.{ending}") for ending in ("csv", "jsonl", "parquet")),
        *((f"in.{ending}", "out.csv") for ending in ("tsv", "jsonl", "parquet", "txt")),
        ("in.jsonl", "out.parquet"),
    ],
)
def test_every_row_comes_back_in_order_with_its_columns(
    given: str, wanted: str, predict: Run, trained: Trained, workspace: Path
) -> None:
    source = write(workspace / given, TEXTS)
    done = predict(source, "--output", wanted)
    assert (done.status, done.out) == (0, ""), done
    assert f"606 reviews, 3 of them without an answer -> {wanted}" in done.err
    rows = read(workspace / wanted)
    own = ["text"] if given == "in.txt" else ["id", "text"]
    assert [list(row) for row in rows] == [own + NAMES] * len(TEXTS)
    assert [row["text"] or "" for row in rows] == [text or "" for text in TEXTS]
    classifier = lit_imdb.load(trained.run / "checkpoints/best.ckpt")
    for number, (row, answer) in enumerate(zip(rows, classifier.predict(TEXTS), strict=True)):
        assert row["label"] == answer.label == ("" if number in EMPTY else row["label"])
        assert bool(row["reason"]) == (number in EMPTY)
    expected = [answer.probability for answer in classifier.predict(TEXTS)]
    for got, one in zip(probabilities(rows), expected, strict=True):
        assert got == (None if one is None else pytest.approx(one, abs=1e-5))
    assert float(rows[5]["unknown_words"]) == pytest.approx(0.5)  # "zebra" of "lovely zebra"
    assert not list(workspace.glob(".*"))


def test_parquet_keeps_its_column_types(predict: Run, workspace: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(
        {
            "id": pa.array([1, 2], pa.int16()),
            "stars": pa.array([None, 2.5], pa.float32()),
            "text": ["a great film", "a dull film"],
        }
    )
    pq.write_table(table, workspace / "in.parquet")
    done = predict("in.parquet", "--output", "out.parquet")
    assert done.status == 0, done
    assert pq.read_table(workspace / "out.parquet").select(table.column_names) == table


def test_a_column_called_label_is_kept(predict: Run, workspace: Path) -> None:
    (workspace / "in.jsonl").write_text('{"text": "a great film", "label": 0}\n')
    done = predict("in.jsonl")
    row = json.loads(done.out)
    assert row["label"] == 0
    assert row["predicted_label"] in ("neg", "pos")


def test_a_folder_gives_a_row_for_each_text_file(predict: Run, workspace: Path) -> None:
    (workspace / "reviews").mkdir()
    for name, text in (("b.txt", "two\nlines"), ("a.txt", "great"), ("c.md", "no review")):
        (workspace / "reviews" / name).write_text(text)
    rows = [json.loads(line) for line in predict("reviews").out.splitlines()]
    assert [(row["file"], row["text"]) for row in rows] == [
        ("a.txt", "great"),
        ("b.txt", "two\nlines"),
    ]


def test_another_column_and_another_encoding(predict: Run, workspace: Path) -> None:
    (workspace / "in.csv").write_bytes("review\nCaf\xe9 was great\n".encode("cp1252"))
    done = predict("in.csv", "--text_column", "review", "--encoding", "cp1252")
    assert json.loads(done.out)["review"] == "Caf\xe9 was great"


def test_texts_are_answered_with_the_words_that_moved_them(predict: Run, trained: Trained) -> None:
    texts = ["A <b>lovely</b> film", "[red]awful\x1b[31m", "zebra", " "]
    done = predict(*(part for text in texts for part in ("--text", text)))
    assert done.status == 0, done
    lines = done.out.splitlines()
    lovely, awful, *_ = lit_imdb.load(trained.run / "checkpoints/best.ckpt").predict(texts)
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
    predict: Run, trained: Trained, workspace: Path
) -> None:
    ckpt = trained.run / "checkpoints/best.ckpt"
    accuracy = 100 * results_of(trained.run)["val_acc"]
    (workspace / "in.txt").write_text("a great film\n")
    for args in (["--text", "good"], ["in.txt"]):
        assert predict(*args).err == f"model: {ckpt}, validation accuracy {accuracy:.1f} %\n"


def test_a_checkpoint_has_the_accuracy_of_its_own_weights(
    run: Run, trained: Trained, workspace: Path
) -> None:
    checkpoint = torch.load(trained.run / "checkpoints/last.ckpt", weights_only=True)
    (history,) = (one for one in checkpoint["callbacks"].values() if "validations" in one)
    history["validations"] = [{"epoch": 1.0, "val/acc": 0.9}, {"epoch": 2.0, "val/acc": 0.51}]

    def said(epoch: int) -> list[str]:
        torch.save({**checkpoint, "epoch": epoch}, workspace / "last.ckpt")
        return run("predict", "--text", "good", "--ckpt_path", "last.ckpt").err.splitlines()

    after_second, within_third = said(1), said(2)
    assert after_second[0] == "model: last.ckpt, validation accuracy 51.0 %"
    assert after_second[1].startswith("warning: this model is close to guessing")
    assert within_third == ["model: last.ckpt, validation accuracy unknown"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "in.csv",
            b"id,review\n1,good\n",
            "data row 1: expected a text in the column 'text', found {'id': '1', 'review': 'good'}",
        ),
        (
            "in.csv",
            b"id;text\n1;good\n",
            "expected a text in the column 'text', found {'id;text': '1;good'}",
        ),
        (
            "in.tsv",
            b"id;text\n1;good\n",
            "expected a text in the column 'text', found {'id;text': '1;good'}",
        ),
        ("in.csv", b'"text; long" x,id\ngood,1\n', "broken CSV"),
        ("in.csv", b"text\ngood\ncaf\xe9\n", "not utf-8"),
        ("in.csv", b"", "in.csv"),
        ("in.csv", b"text\n", "expected at least one review"),
        ("in.txt", b"", "expected at least one review"),
        ("in.jsonl", b'{"text": "good"}\n{"text": \n', "line 2: broken JSON"),
        (
            "in.jsonl",
            b'{"text": 5}\n',
            "data row 1: expected a text in the column 'text', found {'text': 5}",
        ),
        ("in.jsonl", b'[{"text": "good"}]', "expected one JSON object per line"),
        ("in.jsonl", b'[\n{"text": "good"}\n]', "expected one object per line"),
        ("in.json", b'[{"text": "good"}]', "a .jsonl file holds one JSON object per line"),
        ("in.doc", b"good", "unknown ending '.doc'"),
        ("in.parquet", b"good", "not a readable Parquet file"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    name: str, content: bytes, message: str, predict: Run, workspace: Path
) -> None:
    (workspace / name).write_bytes(content)
    done = predict(name, "--output", "out.csv")
    assert (done.status, done.out, done.err.count("\n")) == (2, "", 1), done
    assert message in done.err
    assert [path.name for path in workspace.iterdir() if "out" in path.name] == []


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "expected a file or texts"),
        (["gone.csv"], "no such file or folder: gone.csv"),
        (["in.txt", "--output", "out.xlsx"], "'.xlsx'"),
        (["in.txt", "--output", "no/o.csv"], "no such folder"),
        (["in.txt", "--output", "reviews.csv"], "is a folder"),
        (["in.txt", "--text", "good"], "expected a file or texts"),
        (["in.txt", "--device", "gpu0"], "device gpu0"),
        (["reviews.csv"], "no .txt files"),
    ],
)
def test_bad_arguments_are_one_line(
    args: list[str], message: str, predict: Run, workspace: Path
) -> None:
    (workspace / "in.txt").write_text("good\n")
    (workspace / "reviews.csv").mkdir()
    done = predict(*args)
    assert (done.status, done.out, done.err.count("\n")) == (2, "", 1), done
    assert message in done.err


def test_rows_that_do_not_fit_a_csv_are_named(predict: Run, workspace: Path) -> None:
    lines = ['{"text": "good"}\n'] * 600 + ['{"text": "bad", "stars": 1}\n']
    (workspace / "in.jsonl").write_text("".join(lines))
    done = predict("in.jsonl", "--output", "out.csv")
    assert (done.status, done.err.count("\n")) == (2, 1), done
    assert "rows 513 to 601 do not fit" in done.err
    assert not list(workspace.glob("*out.csv*"))


def start(trained: Trained, cwd: Path, *args: str) -> "subprocess.Popen[bytes]":
    """`predict` in a process group of its own, with its standard streams as pipes."""
    ckpt = str(trained.run / "checkpoints/best.ckpt")
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), "predict", "--ckpt_path", ckpt, *args],
        cwd=cwd,
        env={**os.environ, "XDG_CACHE_HOME": str(trained.cache)},  # compiled code is there
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    timer = threading.Timer(120, process.kill)  # a test that waits for ever says nothing
    timer.daemon = True
    timer.start()
    return process


def wait_until_written(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists() or not path.stat().st_size:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_answers_appear_while_standard_input_is_still_open(
    trained: Trained, workspace: Path
) -> None:
    process = start(trained, workspace, "-")
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdin.write(b"a great film\n" * 512)
    process.stdin.flush()
    assert json.loads(process.stdout.readline())["text"] == "a great film"
    process.stdin.write(b"the last one")
    process.stdin.close()
    lines = process.stdout.read().splitlines()  # all but the first
    assert process.wait() == 0
    assert process.stderr.read().startswith(b"model: ")
    assert len(lines) == 512
    assert json.loads(lines[-1])["text"] == "the last one"


def test_killed_half_way_leaves_no_output_and_a_second_call_completes(
    trained: Trained, workspace: Path, predict: Run
) -> None:
    process = start(trained, workspace, "-", "--output", "out.csv")
    assert process.stdin is not None
    process.stdin.write(b"a great film\n" * 1100)
    process.stdin.flush()
    temporary = workspace / ".out.csv.tmp"
    wait_until_written(temporary)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (workspace / "out.csv").exists()
    source = write(workspace / "in.txt", ["a great film"] * 1100)
    assert predict(source, "--output", "out.csv").status == 0
    assert len(read(workspace / "out.csv")) == 1100
    assert not temporary.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("signum", "name"), [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")]
)
def test_a_signal_to_both_processes_is_one_line_and_leaves_nothing(
    signum: int, name: str, trained: Trained, workspace: Path
) -> None:
    write(workspace / "in.txt", ["a great film"] * 500_000)
    process = start(trained, workspace, "in.txt", "--output", "out.csv")
    wait_until_written(workspace / ".out.csv.tmp")
    os.killpg(process.pid, signum)
    _, err = process.communicate()
    assert (process.returncode, err.decode()) == (128 + signum, f"stopped by {name}\n")
    assert [path.name for path in workspace.iterdir()] == ["in.txt"]


def test_a_closed_pipe_is_no_error(trained: Trained, workspace: Path) -> None:
    write(workspace / "in.txt", ["a great film"] * 5000)
    process = start(trained, workspace, "in.txt")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 128 + signal.SIGPIPE


@pytest.mark.slow
def test_a_killed_reader_is_one_line(trained: Trained, workspace: Path) -> None:
    write(workspace / "in.txt", ["a great film"] * 500_000)
    process = start(trained, workspace, "in.txt", "--output", "out.csv")
    wait_until_written(workspace / ".out.csv.tmp")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.exists():
        pytest.skip("needs /proc")
    os.kill(int(children.read_text().split()[0]), signal.SIGKILL)
    _, err = process.communicate()
    assert (process.returncode, err.count(b"\n")) == (1, 1), err
    assert b"worker" in err
    assert [path.name for path in workspace.iterdir()] == ["in.txt"]


def test_stream_reads_no_further_than_it_answers(trained: Trained) -> None:
    classifier = lit_imdb.load(trained.run / "checkpoints/best.ckpt")
    read: list[str] = []
    texts = (read.append(text) or text for text, _ in make_reviews(50))
    answers = classifier.stream(texts, batch_size=2)
    assert next(answers) == classifier.predict(make_reviews(50)[0][0])[0]
    assert len(read) == 2
    assert len(list(answers)) == 99
    with pytest.raises(UserError, match="batch_size 0"):
        next(classifier.stream(["a"], batch_size=0))


def test_inference_starts_without_lightning(workspace: Path) -> None:
    modules = ("predict", "export", "app")
    script = "".join(f"import lit_imdb.inference.{name}\n" for name in modules)
    script += "print([name for name in sys.modules if name.startswith(('pytorch_l', 'lightning'))])"
    assert run_script(script, cwd=workspace).out == "[]\n"


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # Lightning 2.6 under torch 2.13
def test_trainer_predict_gives_probabilities_of_the_test_reviews(trained: Trained) -> None:
    from pytorch_lightning import Trainer

    ckpt = trained.run / "checkpoints/best.ckpt"
    data = lit_imdb.ImdbDataModule(str(trained.corpus), vocab_size=60, max_length=8, batch_size=16)
    data.prepare_data()
    data.setup("predict")
    classifier = lit_imdb.load(ckpt)
    model = lit_imdb.LitSentiment(vocab_size=60, embedding_dim=8, hidden_dim=8)
    model.net.load_state_dict(classifier.net.state_dict())
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    batches = trainer.predict(model, data)
    expected = classifier.predict([text for text, _ in texts_of(trained.corpus)["test"]])
    assert torch.cat(batches).tolist() == pytest.approx([one.probability for one in expected])
