"""The network against Keras, against the tutorial's table of shapes, and with padding.

Shapes: B reviews, T tokens, V words, E embedding, H hidden units.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lit_imdb.model.engines import ENGINES
from lit_imdb.model.network import SentimentRNN, evaluator_of
from lit_imdb.model.recurrence import padding_of

FIXTURE = Path(__file__).parent / "fixtures" / "keras_simple_rnn.npz"


@pytest.mark.parametrize("engine", ENGINES)
def test_logits_equal_those_of_keras_cells(engine: str) -> None:
    with np.load(FIXTURE) as content:
        keras = {name: torch.from_numpy(content[name]) for name in content}
    vocab, embedding = keras["embedding"].shape
    net = SentimentRNN(vocab, embedding, len(keras["cell0_bias"]), engine=engine)
    with torch.no_grad():
        net.embedding.weight.copy_(keras["embedding"])
        for layer, cell in enumerate(net.cells):
            cell.weight_ih.copy_(keras[f"cell{layer}_kernel"].t())
            cell.weight_hh.copy_(keras[f"cell{layer}_recurrent_kernel"].t())
            cell.bias_ih.copy_(keras[f"cell{layer}_bias"])
        net.head.weight.copy_(keras["head_kernel"].t())
        net.head.bias.copy_(keras["head_bias"])

    logits = net(keras["ids"], (keras["mask0"], keras["mask1"]))
    torch.testing.assert_close(logits, keras["logits_with_masks"], atol=1e-5, rtol=0)
    assert (logits - keras["logits"]).abs().max() > 1e-2  # the masks do something
    for evaluated in (net.eval(), evaluator_of(net)):
        torch.testing.assert_close(evaluated(keras["ids"]), keras["logits"], atol=1e-5, rtol=0)


def test_shapes_are_those_of_section_6_of_the_tutorial() -> None:
    net = SentimentRNN(engine="reference").eval()
    seen: list[Any] = []

    def note(module: nn.Module, inputs: tuple[Tensor | None, ...], output: Tensor) -> None:
        seen.append((module, *(x.shape for x in (*inputs, output) if x is not None)))

    for module in net.children():
        module.register_forward_hook(note)
    assert net(torch.randint(10_000, (128, 80))).shape == (128,)
    # [b, seq_len, feature_len] = [128, 80, 100], here with the words first
    assert seen[0] == (net.embedding, (80, 128), (80, 128, 100))
    # h = [128, 100] @ [100, 64] + [128, 64] @ [64, 64] = [128, 64], at each word but the first
    word = [(net.cell0, (128, 100), (128, 64), (128, 64)), (net.cell1, *[(128, 64)] * 3)]
    assert seen[3:] == [*word * 79, (net.head, (128, 64), (128, 1))]
    assert net.cell0.weight_ih.shape == (64, 100)  # torch keeps weights as (out, in)


def test_padding_is_what_stands_in_front_of_the_first_word() -> None:
    ids = torch.tensor([[0, 0, 5, 0, 6], [7, 8, 9, 1, 2], [0, 0, 0, 0, 0]])
    assert padding_of(ids).tolist() == [2, 0, 5]


@pytest.mark.parametrize("engine", ENGINES)
def test_padding_changes_no_logit_and_has_no_influence(engine: str) -> None:
    torch.manual_seed(0)
    net = SentimentRNN(20, 6, 5, engine=engine).eval()
    nn.init.normal_(net.embedding.weight)
    nn.init.normal_(net.cell0.bias_ih)
    nn.init.constant_(net.head.bias, 0.7)
    words = torch.randint(1, 20, (40, 9))
    for padding in range(9):
        padded = words.clone()
        padded[:, :padding] = 0
        alone = net(words[:, padding:])
        for logits in (net(padded), evaluator_of(net)(padded)):
            torch.testing.assert_close(logits, alone, atol=1e-6, rtol=0)
        assert not net.influences(padded)[:, :padding].any()
    empty = torch.zeros(2, 9).long()
    assert net(empty).tolist() == evaluator_of(net)(empty).tolist() == [pytest.approx(0.7)] * 2


def test_dropout_draws_one_mask_for_all_words_of_a_review() -> None:
    net = SentimentRNN(20, 100, 64, dropout=0.2).train()
    mask0, mask1 = net.draw_masks(256)
    assert (mask0.shape, mask1.shape) == ((256, 100), (256, 64))
    assert mask0.unique().tolist() == [0, 1.25]
    assert (mask0 == 0).float().mean().item() == pytest.approx(0.2, abs=0.01)
    assert not torch.equal(mask0[0], mask0[1])
    ids = torch.randint(20, (4, 6))
    assert not torch.equal(net(ids), net(ids))
    assert torch.equal(net.eval()(ids), net(ids))


def test_initial_values_are_those_of_keras() -> None:
    torch.manual_seed(1)
    net = SentimentRNN()
    for weight, limit in (
        (net.embedding.weight, 0.05),
        (net.cell0.weight_ih, (6 / (100 + 64)) ** 0.5),
    ):
        assert weight.abs().max() <= limit
        assert weight.std().item() == pytest.approx(limit / 3**0.5, rel=0.01)
    for cell in net.cells:
        product = cell.weight_hh @ cell.weight_hh.t()
        torch.testing.assert_close(product, torch.eye(64), atol=1e-5, rtol=0)
        assert not cell.bias_ih.any()
        assert not cell.bias_hh.any()
    assert sum(p.numel() for p in net.parameters() if p.requires_grad) == 1_018_881
