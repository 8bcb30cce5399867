"""The recipes configs/accurate.yaml and configs/ngrams.yaml, and the ladder in docs/accuracy.md."""

import json
import math
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT, RUN, SHORT, Run, make_reviews, results_of, write_csv
from torch.nn.functional import binary_cross_entropy_with_logits

import lit_imdb
from lit_imdb.model.ngrams import NGrams
from lit_imdb.model.recipe import drop_words, loss_at_every_word

TABLE = (ROOT / "docs/accuracy.md").read_text().split("FIGURES")[1].splitlines()
LADDER = [row.split("|")[2].strip(" `") for row in TABLE if row.startswith("| ")][2:]
assert LADDER


@pytest.mark.parametrize("recipe", ["accurate", "ngrams"])
def test_predict_python_and_report_show_what_test_measured_and_it_can_be_exported(
    recipe: str, run: Run, workspace: Path
) -> None:
    pytest.importorskip("onnx")
    reviews = make_reviews(20, seed=1)
    write_csv(workspace / "train.csv", make_reviews(50))
    write_csv(workspace / "test.csv", reviews)
    recipe_flags = ("--report", "true", "--config", ROOT / f"configs/{recipe}.yaml")
    fitted = run(*SHORT, *recipe_flags, "--data.source", workspace)
    assert fitted.status == 0, fitted
    assert "warning" not in fitted.err
    assert run("predict", "test.csv", "--output", "answers.jsonl").status == 0
    assert run("export", "--output", "exported").status == 0

    classifier, (texts, labels) = lit_imdb.load("best"), zip(*reviews, strict=True)
    expected = np.array([answer.probability for answer in classifier.predict(texts)])
    assert expected.std() > 0.001
    rows = map(json.loads, Path("answers.jsonl").read_text().splitlines())
    assert [row["probability"] for row in rows] == pytest.approx(expected, abs=1e-5)
    assert f"positive: {expected[0]:.1%}" in run("predict", "--text", texts[0]).out
    of_label = np.where(labels, expected, 1 - expected)
    results = results_of(RUN)
    assert results["test_loss"] == pytest.approx(-np.log(of_label).mean(), abs=1e-5)
    assert results["test_acc"] == pytest.approx((of_label > 0.5).mean(), abs=1e-5)
    page = (RUN / "report.html").read_text()
    assert "Confusion matrix" in page
    assert ("Gradient by token" in page) == (recipe == "accurate")


@pytest.mark.parametrize("row", LADDER)
def test_every_row_of_the_ladder_runs_by_what_stands_in_it(
    row: str, run: Run, corpus: Path, workspace: Path
) -> None:
    (workspace / "configs").symlink_to(ROOT / "configs")
    if row.startswith("python -m "):
        pytest.importorskip("sklearn")
        program = [sys.executable, *row.split()[1:], corpus]
        done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=120)
        assert re.fullmatch(r"val 1?\d\d.\d\d%, test 1?\d\d.\d\d%\n", done.stdout), done.stderr
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
    expected = binary_cross_entropy_with_logits(
        logits, every, weights / weights.sum(), reduction="sum"
    )
    torch.testing.assert_close(loss_at_every_word(logits, labels, padding), expected)
    assert loss_at_every_word(logits[2:], labels[2:], padding[2:]).item() == 0


def test_an_ngram_speaks_for_the_label_whose_reviews_have_it() -> None:
    ids = torch.tensor([[0, 2, 3, 3], [2, 3, 4, 5], [0, 0, 0, 4]], dtype=torch.int16)
    net = NGrams(vocab_size=6)
    train: Any = SimpleNamespace(ids=ids, labels=torch.tensor([1, 0, 1], dtype=torch.int8))
    net.count(train)
    assert net.ratio[:6].tolist() == pytest.approx([0, 0, 0, 0, 0, math.log(3 / 4)])
    _, pairs, triples = net.rows(ids)[0]
    # those that reach into the padding, then: 2 3, 3 3; 2 3 3
    assert net.ratio[pairs].tolist() == pytest.approx([0, 0, 0, math.log(4 / 3)])
    assert net.ratio[triples].tolist() == pytest.approx([0, 0, 0, math.log(4 / 3)])


def test_influences_add_up_to_the_logit_and_padding_has_none() -> None:
    torch.manual_seed(0)
    net = NGrams(vocab_size=50)
    net.ratio.normal_()
    net.ratio[0] = 0
    torch.nn.init.normal_(net.weight)
    ids = torch.randint(1, 50, (6, 9))
    for review, padding in zip(ids, (0, 1, 6, 7, 8, 9), strict=True):
        review[:padding] = 0
    with torch.no_grad():
        logits, influences = net(ids), net.influences(ids)
        torch.testing.assert_close(influences.sum(1) + net.bias, logits)
        assert not influences[ids == 0].any()
        for review, logit in zip(ids[:5], logits, strict=False):
            torch.testing.assert_close(net(review[None, review != 0])[0], logit)
