"""A user's mistakes: one line that says what to do, exit status 2."""

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import (
    TINY,
    Trained,
    error_line,
    make_reviews,
    train_py,
    write_acl_imdb,
    write_jsonl,
)

Fails = Callable[..., str]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu_says_to_use_the_cpu(fails: Fails, corpus: Path) -> None:
    for flag in ("--accelerator", "--trainer.accelerator"):
        for value in ("gpu", "cuda"):
            assert "--accelerator cpu" in fails(flag, value, "--data.source", corpus)


@pytest.mark.parametrize("command", ["validate", "test"])
def test_no_checkpoint_yet_says_to_train_one(command: str, fails: Fails) -> None:
    assert "python train.py" in fails(command)
    assert "python train.py" in fails(command, "--ckpt_path", "last")


def test_nothing_to_resume_is_said(fails: Fails, corpus: Path) -> None:
    assert "no last checkpoint" in fails("fit", "--ckpt_path", "last", "--data.source", corpus)


@pytest.mark.parametrize("command", ["fit", "test"])
def test_a_missing_checkpoint_is_named(command: str, fails: Fails) -> None:
    assert "missing.ckpt" in fails(command, "--ckpt_path", "missing.ckpt")


def test_a_checkpoint_from_the_network_is_refused(fails: Fails) -> None:
    assert "download" in fails("test", "--ckpt_path", "https://127.0.0.1:1/best.ckpt")


def damaged(kind: str, good: Path) -> bytes:
    content = good.read_bytes()
    return {
        "empty": b"",
        "text": b"not a checkpoint\n",
        "half": content[: len(content) // 2],
        "zeros": bytes(len(content)),
    }[kind]


@pytest.mark.parametrize("kind", ["empty", "text", "half", "zeros"])
def test_a_damaged_checkpoint_is_named(
    kind: str, fails: Fails, trained: Trained, tmp_path: Path
) -> None:
    (tmp_path / "bad.ckpt").write_bytes(damaged(kind, trained.run / "checkpoints/best.ckpt"))
    assert "bad.ckpt" in fails("test", "--ckpt_path", "bad.ckpt")


class Harmful:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("harm"),))


def test_a_checkpoint_that_holds_code_is_refused_and_not_run(fails: Fails, tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "x": Harmful()}, "bad.ckpt")
    assert "bad.ckpt is refused" in fails("test", "--ckpt_path", "bad.ckpt")
    Path("pickled.ckpt").write_bytes(pickle.dumps(Harmful()))
    assert "pickled.ckpt" in fails("fit", "--ckpt_path", "pickled.ckpt")
    assert not Path("harm").exists()


def test_a_checkpoint_of_another_program_is_refused(fails: Fails) -> None:
    torch.save({"state_dict": {}}, "other.ckpt")
    assert "not a checkpoint of this program" in fails("test", "--ckpt_path", "other.ckpt")
    torch.save([1, 2], "other.ckpt")
    assert "not a checkpoint of this program" in fails("test", "--ckpt_path", "other.ckpt")


def test_a_checkpoint_of_another_size_is_explained(fails: Fails, trained: Trained) -> None:
    ckpt = trained.run / "checkpoints/best.ckpt"
    for flag in ("--model.hidden_dim", "--model.embedding_dim", "--data.vocab_size"):
        for command in ("fit", "test"):
            line = fails(
                *(command, "--ckpt_path", ckpt, "--data.source", trained.corpus), flag, "5"
            )
            assert f"{flag} 5" in line
            assert "best.ckpt" in line


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["--data.sorce", "package"], "sorce"),
        (["--model.hidden", "3"], "hidden"),
        (["--nonsense"], "nonsense"),
        (["tset"], "tset"),
        (["--max_epoch", "1"], "max_epoch"),
        (["--data.tokenizer", "letters"], "tokenizer"),
        (["--data.batch_size", "many"], "batch_size"),
        (["--data.batch_size", "0"], "batch_size"),
        (["--data.val_fraction", "1"], "val_fraction"),
        (["--data.val_fraction", "-0.1"], "val_fraction"),
        (["--data.vocab_size", "2"], "vocab_size"),
        (["--data.max_length", "0"], "max_length"),
        (["--model.hidden_dim", "0"], "hidden_dim"),
        (["--model.embedding_dim", "-1"], "embedding_dim"),
        (["--model.dropout", "1"], "dropout"),
        (["--model.dropout", "-0.5"], "dropout"),
        (["--model.lr", "0"], "lr"),
        (["--model.lr", "nan"], "lr"),
        (["--model.engine", "magic"], "engine"),
        (["--accelerator", "abacus"], "abacus"),
        (["--precision", "17"], "17"),
        (["--devices", "0"], "devices"),
        (["--devices", "x"], "devices"),
        (["--strategy", "psychic"], "psychic"),
        (["--max_epochs", "soon"], "max_epochs"),
        (["--max_epochs", "-5"], "max_epochs"),
        (["--trainer.limit_train_batches", "-3"], "limit_train_batches"),
        (["--trainer.devices"], "devices"),
        (["--config", "missing.yaml"], "missing.yaml"),
        (["--data.source", "missing/path"], "missing/path"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_unknown_keys_and_values_are_named(
    args: list[str], named: str, fails: Fails, corpus: Path
) -> None:
    assert named in fails("--data.source", corpus, *TINY, *args)


def test_a_config_file_with_an_unknown_key_is_named(fails: Fails) -> None:
    Path("mine.yaml").write_text("data:\n  sorce: package\n")
    assert "sorce" in fails("--config", "mine.yaml")
    Path("mine.yaml").write_text("data: [unclosed\n")
    assert "mine.yaml" in fails("--config", "mine.yaml")


CORPORA = {
    "no text column": (["review,label", "fine,1"], "no column 'text'"),
    "no label column": (["text,stars", "fine,1"], "no column 'label'"),
    "capitals": (["Text,Label", "fine,1"], "only 'Text', 'Label'; expected 'text' and 'label'"),
    "a space": (["text, label", "fine,1"], "only 'text', ' label'"),
    "what to do": (
        ["review,label", "fine,1"],
        "rename them, or name the text's with --data.text_c",
    ),
    "empty file": ([], ""),
    "header alone": (["text,label"], ""),
    "label outside": (["text,label", "fine,1", "bad,x"], "label 'x' is outside 0/1 (or neg/pos)\n"),
    "stars": (
        ["text,label", "fine,1", "bad,2"],
        "row 2 below the header: label '2' is outside 0/1",
    ),
    "stars in halves": (
        ["text,label", "fine,3.5"],
        "map stars to 0 and 1, and leave the middle out",
    ),
    "label empty": (["text,label", "fine,"], "the label is empty"),
    "all empty": (["text,label", '"",1', '" ",0'], "all 2 texts are empty"),
    "one class": (["text,label", *(f"film {n},1" for n in range(50))], "neg"),
    "too few": (["text,label", "a,1", "b,0"], "too few"),
    "too many columns": (["text,label", "fine, but long,1"], "quote"),
    "semicolons": (["text;label", "fine;1"], "separated by semicolons: save it with commas"),
    "semicolons and commas": (["text;label", "fine, but long;1"], "separated by semicolons"),
    "quoted semicolons": (['"text";"label"', '"fine";"1"'], "separated by semicolons"),
    "tabs": (["text\tlabel", "fine\t1"], "separated by tabs: name it .tsv"),
    "all the same": (["text,label", *["a,1", "a,0"] * 50], "texts equal"),
}


@pytest.mark.parametrize("case", CORPORA)
def test_a_corpus_that_cannot_be_used_is_explained(case: str, fails: Fails, tmp_path: Path) -> None:
    lines, expected = CORPORA[case]
    (tmp_path / "odd.csv").write_text("".join(f"{line}\n" for line in lines))
    line = fails("--data.source", "odd.csv", *TINY)
    assert "odd.csv" in line or "review" in line
    assert expected in line


def test_null_labels_and_texts_that_are_no_strings_are_named(fails: Fails) -> None:
    Path("odd.jsonl").write_text('{"text": "fine", "label": null}\n')
    assert "row 1: the label is empty" in fails("--data.source", "odd.jsonl", *TINY)
    Path("odd.jsonl").write_text('{"text": 5, "label": 1}\n')
    assert "text 5 is not a string" in fails("--data.source", "odd.jsonl", *TINY)
    Path("odd.jsonl").write_text('{"text": null, "label": 1}\n{"text": null, "label": 0}\n')
    assert "all 2 texts are empty" in fails("--data.source", "odd.jsonl", *TINY)
    Path("odd.jsonl").write_text('{"text": "cut')
    assert "line 1" in fails("--data.source", "odd.jsonl", *TINY)


def test_files_that_are_not_what_their_name_says_are_named(fails: Fails) -> None:
    Path("odd.parquet").write_text("not parquet")
    assert "odd.parquet" in fails("--data.source", "odd.parquet", *TINY)
    Path("odd.docx").write_text("text")
    assert ".parquet" in fails("--data.source", "odd.docx", *TINY)
    Path("odd.csv").write_bytes(b"text,label\n\xff\xfe,1\n")
    assert "odd.csv, line 2" in fails("--data.source", "odd.csv", *TINY)
    Path("nothing").mkdir()
    assert "expected train|test/pos|neg" in fails("--data.source", "nothing", *TINY)


def test_the_acl_layout_in_another_encoding_says_which_flag(fails: Fails, tmp_path: Path) -> None:
    write_acl_imdb(tmp_path / "imdb", make_reviews(20))
    (tmp_path / "imdb/train/pos/99_9.txt").write_bytes(b"caf\xe9")
    line = fails("--data.source", "imdb", *TINY)
    assert "99_9.txt" in line
    assert "--data.encoding cp1252" in line
    assert "unknown encoding: x" in fails("--data.source", "imdb", *TINY, "--data.encoding", "x")


def test_one_class_in_the_acl_layout_is_named(fails: Fails, tmp_path: Path) -> None:
    write_acl_imdb(tmp_path / "imdb", [r for r in make_reviews(30) if r[1] == 1])
    assert "neg" in fails("--data.source", "imdb", *TINY)


def test_fewer_reviews_than_a_batch_says_which_flag(fails: Fails, corpus: Path) -> None:
    line = fails("--data.source", corpus, *TINY, "--data.batch_size", "500")
    assert "144 training reviews are fewer than a batch" in line
    assert "--data.batch_size" in line


def test_a_cache_that_cannot_be_written_says_which_flag(fails: Fails, corpus: Path) -> None:
    Path("occupied").write_text("a file, no folder")
    line = fails("--data.source", corpus, *TINY, "--data.cache_dir", "occupied/below")
    assert "--data.cache_dir" in line


def test_a_wrong_test_part_is_found_in_other_commands_too(
    fails: Fails, trained: Trained, tmp_path: Path
) -> None:
    write_jsonl(tmp_path / "odd.jsonl", [("fine", 7)])
    ckpt = trained.run / "checkpoints/best.ckpt"
    for command in ("validate", "test"):
        line = fails(command, "--ckpt_path", ckpt, "--data.source", "odd.jsonl")
        assert "label 7" in line


def test_the_real_command_prints_one_line_and_nothing_else(workspace: Path) -> None:
    done = train_py("--data.source", "missing", cwd=workspace)
    assert "missing" in error_line(done)
    assert done.out == ""
    assert not (workspace / "logs").exists()


def test_a_traceback_is_there_for_who_asks(workspace: Path) -> None:
    done = train_py("--data.source", "missing", cwd=workspace, LIT_IMDB_DEBUG="1")
    assert done.status != 0
    assert "Traceback" in done.err
    assert "UserError: no such file or folder: " in done.err
