"""The training recipe: word dropout and the loss at every word."""

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from lit_imdb import LitSentiment
from lit_imdb.errors import UserError
from lit_imdb.model.recipe import drop_words, loss_at_every_word


def test_dropped_words_become_unknown_and_padding_stays() -> None:
    ids = torch.tensor([0, 0, *range(2, 1002)]).repeat(20, 1)
    dropped = drop_words(ids, 0.4, torch.Generator().manual_seed(1))
    changed = dropped != ids
    assert (dropped[changed] == 1).all()
    assert not changed[:, :2].any()
    assert changed[:, 2:].float().mean().item() == pytest.approx(0.4, abs=0.01)
    again = drop_words(ids, 0.4, torch.Generator().manual_seed(1))
    assert torch.equal(dropped, again)


def test_later_words_count_more_and_padding_not_at_all() -> None:
    logits = torch.tensor([[9.0, 1.0, -2.0], [0.5, -0.5, 3.0], [7.0, 7.0, 7.0]])
    labels, padding = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([1, 0, 3])
    terms = [(1.0, 1.0, 2), (-2.0, 1.0, 3), (0.5, 0.0, 1), (-0.5, 0.0, 2), (3.0, 0.0, 3)]
    losses = [
        weight * binary_cross_entropy_with_logits(torch.tensor(logit), torch.tensor(label))
        for logit, label, weight in terms
    ]
    expected = sum(losses) / sum(weight for *_, weight in terms)
    torch.testing.assert_close(loss_at_every_word(logits, labels, padding), expected)
    empty = loss_at_every_word(logits[2:], labels[2:], padding[2:])
    assert empty.item() == 0


@pytest.mark.parametrize("setting", [{"word_dropout": 1.0}, {"word_loss": -0.1}], ids=str)
def test_a_setting_out_of_range_is_refused(setting: dict[str, float]) -> None:
    (name,) = setting
    with pytest.raises(UserError, match=f"--model.{name}"):
        LitSentiment(**setting)  # type: ignore[arg-type]
