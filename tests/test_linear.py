"""The product that all tokens at once go through equals torch's own, at the edges too."""

import pytest
import torch
from torch import nn

from lit_imdb.model.linear import linear
from lit_imdb.model.network import SentimentRNN


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("rows", "features", "results"), [(1, 1, 1), (640, 100, 64), (5, 0, 3)])
def test_the_product_is_torchs_own(
    rows: int, features: int, results: int, dtype: torch.dtype
) -> None:
    x = torch.randn(features, rows, dtype=dtype).t()  # as a gradient's factors come: transposed
    weight, bias = torch.randn(results, features, dtype=dtype), torch.randn(results, dtype=dtype)
    torch.testing.assert_close(linear(x, weight, bias), nn.functional.linear(x, weight, bias))
    torch.testing.assert_close(linear(x, weight), nn.functional.linear(x, weight))


@pytest.mark.parametrize(("reviews", "tokens"), [(1, 1), (3, 1), (1, 5)])
def test_one_review_or_one_token_trains_as_in_the_plain_loop(reviews: int, tokens: int) -> None:
    net = SentimentRNN(vocab_size=20, embedding_dim=7, hidden_dim=5, dropout=0)
    gradients = _gradients_of_both(net, torch.randint(20, (reviews, tokens)))
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-5)


def test_the_tutorials_sizes_train_as_in_the_plain_loop() -> None:
    words = torch.rand(128, 80).pow(4) * 10_000  # as in reviews: a few words many times
    plain, fast = _gradients_of_both(SentimentRNN(dropout=0), words.long())
    for name, expected in plain.items():
        assert (fast[name] - expected).norm() <= 1e-5 * expected.norm(), name


def _gradients_of_both(net: SentimentRNN, ids: torch.Tensor) -> list[dict[str, torch.Tensor]]:
    """Of each trained parameter, by the plain loop and by the fast form."""
    gradients = []
    for net.engine in ("reference", "fused"):
        net.zero_grad()
        net(ids).sum().backward()
        gradients.append({n: p.grad for n, p in net.named_parameters() if p.requires_grad})
    return gradients
