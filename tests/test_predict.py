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
from conftest import ROOT, Output, Trained, make_reviews, results_of, train_py

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
    """Runs `predict` with the tiny checkpoint, where no training data can be found."""
    ckpt = trained.run / "checkpoints/best.ckpt"
    return lambda *args: run(
        *("predict", "--ckpt_path", ckpt, "--accelerator", "cpu", "--data.source", "gone"), *args
    )


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


@pytest.mark.parametrize("given", ["in.csv", "in.tsv", "in.jsonl", "in.parquet", "in.txt"])
@pytest.mark.parametrize("wanted", ["out.csv", "out.jsonl", "out.parquet"])
def test_every_row_comes_back_in_order_with_its_columns(
    given: str, wanted: str, predict: Run, trained: Trained, workspace: Path
) -> None:
    import lit_imdb

    source = write(workspace / given, TEXTS)
    done = predict("--data.predict_path", source, "--data.predict_output", wanted)
    assert (done.status, done.out) == (0, ""), done
    assert f"606 reviews, 3 of them empty -> {wanted}" in done.err
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
    assert not list(workspace.glob("*.partial"))


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
    done = predict("--data.predict_path", "in.parquet", "--data.predict_output", "out.parquet")
    assert done.status == 0, done
    assert pq.read_table(workspace / "out.parquet").select(table.column_names) == table


def test_a_column_called_label_is_kept(predict: Run, workspace: Path) -> None:
    (workspace / "in.jsonl").write_text('{"text": "a great film", "label": 0}\n')
    done = predict("--data.predict_path", "in.jsonl")
    row = json.loads(done.out)
    assert row["label"] == 0
    assert row["predicted_label"] in ("neg", "pos")


def test_a_folder_gives_a_row_for_each_text_file(predict: Run, workspace: Path) -> None:
    (workspace / "reviews").mkdir()
    for name, text in (("b.txt", "two\nlines"), ("a.txt", "great"), ("c.md", "no review")):
        (workspace / "reviews" / name).write_text(text)
    rows = [json.loads(line) for line in predict("--data.predict_path", "reviews").out.splitlines()]
    assert [(row["file"], row["text"]) for row in rows] == [
        ("a.txt", "great"),
        ("b.txt", "two\nlines"),
    ]


def test_another_column_and_another_encoding(predict: Run, workspace: Path) -> None:
    (workspace / "in.csv").write_bytes("review\nCaf\xe9 was great\n".encode("cp1252"))
    settings = ["--data.text_column", "review", "--data.encoding", "cp1252"]
    done = predict("--data.predict_path", "in.csv", *settings)
    assert json.loads(done.out)["review"] == "Caf\xe9 was great"


def test_the_test_part_is_judged_as_the_test_command_judged_it(trained: Trained, run: Run) -> None:
    import torch
    from torch.nn.functional import binary_cross_entropy

    ckpt = trained.run / "checkpoints/best.ckpt"
    args = ("--ckpt_path", ckpt, "--accelerator", "cpu", "--data.source", trained.corpus)
    rows = [json.loads(line) for line in run("predict", *args).out.splitlines()]
    assert [list(row) for row in rows] == [NAMES] * 40
    labels = torch.tensor([0.0] * 20 + [1.0] * 20)
    loss = binary_cross_entropy(torch.tensor([row["probability"] for row in rows]), labels)
    assert float(loss) == pytest.approx(results_of(trained.run)["test_loss"], abs=1e-5)


def test_texts_are_answered_with_the_words_that_moved_them(predict: Run) -> None:
    done = predict("--text", "A <b>lovely</b> film", "--text", "[red]awful\x1b[31m", "--text", " ")
    assert done.status == 0, done
    lines = done.out.splitlines()
    assert lines[0].startswith(("neg 0.", "pos 0."))
    assert lines[1] == "  read:  a b lovely b film"
    assert lines[2].startswith("  moved: ")
    assert "\x1b" not in done.out
    assert lines[-1] == "empty review: no word to read"
    assert done.err.splitlines()[-1].startswith("by ")  # which checkpoint answered
    assert done.err.splitlines()[-1].endswith("best.ckpt")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "in.csv",
            b"id,review\n1,good\n",
            "row 1 below the header: no column 'text', only 'id', 'review'; name",
        ),
        ("in.csv", b"id;text\n1;good\n", "line 1: the columns are separated by semicolons"),
        ("in.tsv", b"id;text\n1;good\n", "line 1: the columns are separated by semicolons"),
        ("in.csv", b'"text; long" x,id\ngood,1\n', "line 1: broken CSV"),
        ("in.csv", b"text\ngood\ncaf\xe9\n", "line 3: not utf-8"),
        ("in.csv", b"", "in.csv"),
        ("in.csv", b"text\n", "expected at least one review"),
        ("in.txt", b"", "expected at least one review"),
        ("in.jsonl", b'{"text": "good"}\n{"text": \n', "line 2: broken JSON"),
        ("in.jsonl", b'{"text": 5}\n', "row 1: text 5 is not a text"),
        ("in.jsonl", b'[{"text": "good"}]', "expected one JSON object a line"),
        ("in.jsonl", b'[\n{"text": "good"}\n]', "expected one object a line"),
        ("in.json", b'[{"text": "good"}]', "a .jsonl file holds one JSON object a line"),
        ("in.doc", b"good", "unknown ending '.doc'"),
        ("in.parquet", b"good", "not a readable Parquet file"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    name: str, content: bytes, message: str, predict: Run, workspace: Path
) -> None:
    (workspace / name).write_bytes(content)
    done = predict("--data.predict_path", name, "--data.predict_output", "out.csv")
    assert (done.status, done.out, done.err.count("\n")) == (2, "", 1), done
    assert message in done.err
    assert [path.name for path in workspace.iterdir() if "out" in path.name] == []


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--data.predict_path", "gone.csv"], "no such file or folder: gone.csv"),
        (["--data.predict_path", "in.txt", "--data.predict_output", "out.xlsx"], "'.xlsx'"),
        (["--data.predict_path", "in.txt", "--data.predict_output", "no/o.csv"], "no such folder"),
        (["--data.predict_path", "in.txt", "--text", "good"], "do not go together"),
        (["--data.predict_path", "reviews"], "no .txt files"),
        (["--data.predict_path", "-", "--devices", "2"], "cannot be shared by 2 processes"),
    ],
)
def test_bad_arguments_are_one_line(
    args: list[str], message: str, predict: Run, workspace: Path
) -> None:
    (workspace / "in.txt").write_text("good\n")
    (workspace / "reviews").mkdir()
    done = predict(*args)
    assert (done.status, done.out, done.err.count("\n")) == (2, "", 1), done
    assert message in done.err


def test_rows_that_do_not_fit_a_csv_are_named(predict: Run, workspace: Path) -> None:
    lines = ['{"text": "good"}\n'] * 600 + ['{"text": "bad", "stars": 1}\n']
    (workspace / "in.jsonl").write_text("".join(lines))
    done = predict("--data.predict_path", "in.jsonl", "--data.predict_output", "out.csv")
    assert (done.status, done.err.count("\n")) == (2, 1), done
    assert "rows 513 to 601 do not fit" in done.err
    assert not list(workspace.glob("*out.csv*"))


def start_on_standard_input(trained: Trained, cwd: Path, *args: str) -> "subprocess.Popen[bytes]":
    ckpt = str(trained.run / "checkpoints/best.ckpt")
    command = [sys.executable, str(ROOT / "train.py"), "predict", "--ckpt_path", ckpt, *args]
    process = subprocess.Popen(
        [*command, "--accelerator", "cpu", "--data.predict_path", "-"],
        cwd=cwd,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    timer = threading.Timer(120, process.kill)  # a test that waits for ever says nothing
    timer.daemon = True
    timer.start()
    return process


def test_answers_appear_while_standard_input_is_still_open(
    trained: Trained, workspace: Path
) -> None:
    process = start_on_standard_input(trained, workspace)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"a great film\n" * 1024)  # two steps: one is read ahead
    process.stdin.flush()
    assert json.loads(process.stdout.readline())["text"] == "a great film"
    assert process.stderr is not None
    process.stdin.write(b"the last one")
    process.stdin.close()
    lines = process.stdout.read().splitlines()  # all but the first
    assert (process.wait(), process.stderr.read()) == (0, b"")
    assert len(lines) == 1024
    assert json.loads(lines[-1])["text"] == "the last one"


def test_killed_half_way_leaves_no_output_and_a_second_call_completes(
    trained: Trained, workspace: Path, predict: Run
) -> None:
    process = start_on_standard_input(trained, workspace, "--data.predict_output", "out.csv")
    assert process.stdin is not None
    process.stdin.write(b"a great film\n" * 1100)
    process.stdin.flush()
    partial = workspace / ".out.csv.partial"
    deadline = time.monotonic() + 60
    while not partial.exists() or not partial.stat().st_size:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (workspace / "out.csv").exists()
    source = write(workspace / "in.txt", ["a great film"] * 1100)
    done = predict("--data.predict_path", source, "--data.predict_output", "out.csv")
    assert done.status == 0, done
    assert len(read(workspace / "out.csv")) == 1100
    assert not partial.exists()


@pytest.mark.slow
def test_two_processes_write_what_one_writes(
    trained: Trained, workspace: Path, predict: Run
) -> None:
    write(workspace / "in.jsonl", TEXTS)
    assert (
        predict("--data.predict_path", "in.jsonl", "--data.predict_output", "1.jsonl").status == 0
    )
    ckpt = trained.run / "checkpoints/best.ckpt"
    done = train_py(
        *("predict", "--ckpt_path", ckpt, "--data.predict_path", "in.jsonl"),
        *("--accelerator", "cpu", "--devices", "2", "--strategy", "ddp"),
        cwd=workspace,
    )
    assert done.status == 0, done
    two = [json.loads(line) for line in done.out.splitlines()]
    one = read(workspace / "1.jsonl")
    assert [row["id"] for row in two] == list(range(len(TEXTS)))
    for a, b in zip(one, two, strict=True):
        assert a["probability"] == (b["probability"] and pytest.approx(b["probability"], abs=1e-5))
