"""The rival without recurrence: configs/ngrams.yaml."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lit_imdb.model.ngrams import NGrams


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
