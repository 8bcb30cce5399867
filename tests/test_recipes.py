"""The recipes configs/accurate.yaml and configs/ngrams.yaml, and the ladder in docs/accuracy.md."""

import json
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, RUN, SHORT, Run, make_reviews, results_of, write_csv
from torch.nn.functional import binary_cross_entropy_with_logits

import lit_imdb
from lit_imdb.model.recipe import drop_words, loss_at_every_word

TABLE = (ROOT / "docs/accuracy.md").read_text().split("FIGURES")[1].splitlines()
LADDER = [row.split("|")[2].strip(" `") for row in TABLE if row.startswith("| ")][2:]
assert LADDER


@pytest.mark.parametrize("recipe", ["accurate", "ngrams"])
def test_predict_python_export_and_report_show_what_test_measured(
    recipe: str, run: Run, workspace: Path
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    write_csv(workspace / "train.csv", make_reviews(50))
    texts, labels = zip(*make_reviews(20, seed=1), strict=True)
    write_csv(workspace / "test.csv", [*zip(texts, labels, strict=True)])
    flags = [*SHORT, "--report", "true", "--config", ROOT / f"configs/{recipe}.yaml"]
    fitted = run(*flags, "--data.source", workspace)
    assert fitted.status == 0, fitted
    assert "warning" not in fitted.err
    assert run("predict", "test.csv", "--output", "answers.jsonl").status == 0
    assert run("export", "--output", "exported").status == 0

    classifier = lit_imdb.load("best")
    expected = np.array([answer.probability for answer in classifier.predict(texts)])
    assert expected.std() > 0.001
    rows = map(json.loads, Path("answers.jsonl").read_text().splitlines())
    assert [row["probability"] for row in rows] == pytest.approx(expected, abs=1e-5)
    told = run("predict", "--text", texts[0]).out
    assert f"positive: {expected[0]:.1%}" in told
    session = onnxruntime.InferenceSession("exported/model.onnx")
    ids = classifier.encoder.encode(texts).astype("int64")
    (logits,) = session.run(["logits"], {"ids": ids})
    assert logits == pytest.approx(np.log(expected / (1 - expected)), abs=1e-4)
    of_label = np.where(labels, expected, 1 - expected)
    results = results_of(RUN)
    assert results["test_loss"] == pytest.approx(-np.log(of_label).mean(), abs=1e-5)
    assert results["test_acc"] == pytest.approx((of_label > 0.5).mean(), abs=1e-5)
    page = (RUN / "report.html").read_text()
    assert "Confusion matrix" in page
    assert ("Gradient by token" in page) == (recipe == "accurate")


@pytest.mark.parametrize("row", LADDER)
def test_every_row_of_the_ladder_runs_by_what_stands_in_it(
    row: str,
    run: Run,
    corpus: Path,
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (workspace / "configs").symlink_to(ROOT / "configs")
    if row.startswith("python -m "):
        pytest.importorskip("sklearn")
        monkeypatch.setattr(sys, "argv", ["", str(corpus)])
        runpy.run_module(row.removeprefix("python -m "), run_name="__main__")
        assert re.fullmatch(r"val 1?\d\d.\d\d%, test 1?\d\d.\d\d%\n", capsys.readouterr().out)
    else:
        flags = [] if row == "none" else row.split()
        limit = ("--trainer.limit_train_batches", "3")
        assert run("fit", "--data.source", corpus, *flags, *SHORT, *limit).status == 0


def test_dropped_words_become_unknown_and_padding_stays() -> None:
    ids = torch.tensor([0, 0, *range(2, 1002)]).repeat(20, 1)
    dropped = drop_words(ids, 0.4, torch.Generator().manual_seed(1))
    changed = dropped != ids
    assert (dropped[changed] == 1).all()
    assert not changed[:, :2].any()
    assert changed[:, 2:].float().mean().item() == pytest.approx(0.4, abs=0.01)


def test_later_words_count_more_and_padding_not_at_all() -> None:
    logits = torch.tensor([[9.0, 1.0, -2.0], [0.5, -0.5, 3.0], [7.0, 7.0, 7.0]])
    labels, padding = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([1, 0, 3])
    weights = torch.tensor([[0, 2, 3], [1, 2, 3], [0, 0, 0]])
    every = labels[:, None].expand(3, 3)
    losses = binary_cross_entropy_with_logits(logits, every, reduction="none")
    expected = (losses * weights).sum() / weights.sum()
    torch.testing.assert_close(loss_at_every_word(logits, labels, padding), expected)
    empty = loss_at_every_word(logits[2:], labels[2:], padding[2:])
    assert empty.item() == 0
