"""The rival without recurrence: configs/ngrams.yaml."""

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import REPORTED, ROOT, Output, results_of

import lit_imdb
from lit_imdb.model.ngrams import NGrams

NGRAMS = [*REPORTED, "--config", ROOT / "configs/ngrams.yaml"]


def test_an_ngram_speaks_for_the_label_whose_reviews_have_it() -> None:
    ids = torch.tensor([[0, 2, 3, 3], [2, 3, 4, 5], [0, 0, 0, 4]], dtype=torch.int16)
    net = NGrams(vocab_size=6)
    train: Any = SimpleNamespace(ids=ids, labels=torch.tensor([1, 0, 1], dtype=torch.int8))
    net.count(train)
    words = net.ratio[:6].tolist()
    assert words == pytest.approx([0, 0, 0, 0, 0, math.log(3 / 4)])
    _, pairs, triples = net.rows(ids)[0]
    assert not pairs[:2].any()  # they reach into the padding
    assert not triples[:3].any()
    ratios = net.ratio[torch.cat([pairs[2:], triples[3:]])].tolist()
    assert ratios == pytest.approx([0, math.log(4 / 3), math.log(4 / 3)])  # 2 3, 3 3, 2 3 3


def test_influences_add_up_to_the_logit_and_padding_has_none() -> None:
    torch.manual_seed(0)
    net = NGrams(vocab_size=50)
    net.ratio.normal_()
    net.ratio[0] = 0
    torch.nn.init.normal_(net.weight)
    ids = torch.randint(1, 50, (6, 9))
    for review, padding in enumerate((0, 1, 6, 7, 8, 9)):
        ids[review, :padding] = 0
    with torch.no_grad():
        torch.testing.assert_close(net.influences(ids).sum(1) + net.bias, net(ids))
        assert not net.influences(ids)[ids == 0].any()
        for review in (2, 3, 4):
            alone = ids[review : review + 1, ids[review] != 0]
            torch.testing.assert_close(net(alone), net(ids)[review : review + 1])


def test_it_trains_tests_predicts_and_is_reported(run: Callable[..., Output], corpus: Path) -> None:
    source = ["--data.source", corpus]
    whole = run(*NGRAMS, *source, "--max_epochs", "2", "--trainer.default_root_dir", "whole")
    assert whole.status == 0, whole
    assert "warning" not in whole.err
    results = results_of(Path("whole/logs/imdb/version_0"))
    assert results["test_acc"] > 0.9
    tested = run("test", *source, "--trainer.default_root_dir", "whole")
    assert f"{results['test_acc']:.2%}" in tested.out
    best = "whole/logs/imdb/version_0/checkpoints/best.ckpt"
    classifier = lit_imdb.load(best)
    (answer,) = classifier.predict("great wonderful film")
    assert f"positive: {answer.probability:.1%}".replace("%", " %") in (
        run("predict", "--text", "great wonderful film", "--ckpt_path", best).out
    )
    page = Path("whole/logs/imdb/version_0/report.html").read_text()
    assert "Confusion matrix" in page
    assert "Gradient by token" not in page
