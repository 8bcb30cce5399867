"""The compiled recurrence equals the plain loop, at every edge, and with any number of threads.

Shapes: B reviews, T tokens, V words, E embedding, H hidden units.
"""

import copy
import multiprocessing
import os
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import ThreeCells
from torch import Tensor, nn

from lit_imdb.errors import UserError
from lit_imdb.model import fused, kernels, threads
from lit_imdb.model.engines import engine_for
from lit_imdb.model.module import LitSentiment
from lit_imdb.model.network import SentimentRNN, evaluator_of
from lit_imdb.model.threads import single_torch_thread


@pytest.fixture
def set_threads() -> Iterator[Callable[[int], None]]:
    """Sets the number of torch's threads until the test ends."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def gradients_of(
    net: SentimentRNN,
    engine: str,
    ids: Tensor,
    seed: int | None = None,
    at_every_word: bool = False,
) -> dict[str, Tensor]:
    """Logits, and the gradient of each trained parameter; dropout masks where there is a seed."""
    net.zero_grad()
    net.engine = engine
    net.train(seed is not None)
    masks = net.draw_masks(len(ids), torch.Generator().manual_seed(seed or 0))
    logits = net(ids, masks, at_every_word)
    (logits.t() * torch.linspace(-1, 2, len(ids), dtype=logits.dtype)).sum().backward()
    found = {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}
    return {"logits": logits.detach(), **found}


# (B, T, V, E, H): no review; one of all; odd sizes; a part of 32 reviews and one more; wider than
# a vector; the tutorial's
SIZES = [
    *((0, 3, 9, 6, 5), (1, 1, 2, 1, 1), (3, 4, 9, 7, 5), (33, 3, 20, 17, 18), (70, 2, 5, 33, 16)),
    (128, 80, 10_000, 100, 64),
]


@pytest.mark.parametrize("at_every_word", [False, True], ids=["last", "every"])
@pytest.mark.parametrize("seed", [None, 3], ids=["plain", "dropout"])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_it_equals_the_plain_loop(
    size: tuple[int, int, int, int, int], dtype: torch.dtype, seed: int | None, at_every_word: bool
) -> None:
    torch.manual_seed(0)
    reviews, tokens, words, embedding, hidden = size
    net = ThreeCells(words, embedding, hidden, 0.5).to(dtype)
    for cell in net.cells:
        cell.bias_hh.requires_grad_()
        nn.init.normal_(cell.bias_hh)
        nn.init.normal_(cell.bias_ih)
    ids = torch.randint(words, (reviews, tokens))
    for number, review in enumerate(ids):
        review[: number % (tokens + 1)] = 0  # padding: reviews of 0 to T words
    expected = gradients_of(net, "reference", ids, seed, at_every_word)
    found = gradients_of(net, "fused", ids, seed, at_every_word)
    assert found.keys() == expected.keys() == {"logits", *dict(net.named_parameters())}
    close = 1e-5 if dtype == torch.float32 else 1e-10
    for name, value in expected.items():
        assert (found[name] - value).norm() <= close * value.norm(), name
    with torch.no_grad():
        net.eval()
        torch.testing.assert_close(evaluator_of(net)(ids), net(ids), atol=close, rtol=0)


def test_the_number_of_threads_changes_no_digit(set_threads: Callable[[int], None]) -> None:
    found = []
    for number in (1, 2, 3, 8):
        set_threads(number)
        torch.manual_seed(0)
        net, ids = SentimentRNN(), torch.randint(10_000, (130, 9))  # 5 parts
        with single_torch_thread():
            first = {"evaluated": evaluator_of(net)(ids), **net.state_dict()}
            found.append({**first, **gradients_of(net, "fused", ids, seed=3)})
    for other in found[1:]:
        for name, value in found[0].items():
            assert torch.equal(other[name], value), name


def test_a_step_has_one_thread_of_torch_which_has_all_again_after_an_error(
    set_threads: Callable[[int], None],
) -> None:
    set_threads(3)
    lit = LitSentiment(engine="fused", vocab_size=9, embedding_dim=6, hidden_dim=5)
    seen = []

    def fail() -> None:
        seen.append((torch.get_num_threads(), threads.thread_count()))
        raise KeyError

    with pytest.raises(KeyError):
        lit.optimizer_step(0, 0, torch.optim.SGD(lit.parameters(), 0.1), fail)
    assert seen == [(1, 3)]
    assert torch.get_num_threads() == threads.thread_count() == 3


@pytest.mark.parametrize("frozen", ["embedding", "cell"])
def test_what_is_frozen_gets_no_gradient_and_passes_the_same_on(frozen: str) -> None:
    net = SentimentRNN(9, 6, 5)
    for name, weight in net.named_parameters():
        weight.requires_grad_(not name.startswith(frozen))
    ids = torch.randint(9, (4, 3))
    expected, found = (gradients_of(net, engine, ids) for engine in ("reference", "fused"))
    assert len(found) > 1
    assert not any(name.startswith(frozen) for name in found)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_so(value: float) -> None:
    net, ids = SentimentRNN(9, 6, 5, dropout=0), torch.tensor([[1, 2], [3, 4]])
    with torch.no_grad():
        net.embedding.weight[2, 0] = value
        net.cell0.weight_ih[0, 0] = 0.0  # 0 times infinity is NaN
    found = gradients_of(net, "fused", ids)
    assert found["logits"].isnan().tolist() == [True, False]
    assert found["cell0.weight_ih"].isnan().any()


def test_tanh_is_within_some_last_digits() -> None:
    cell = nn.RNNCell(1, 1)
    for weight in (cell.weight_hh, cell.bias_ih, cell.bias_hh):
        nn.init.zeros_(weight)
    nn.init.ones_(cell.weight_ih)
    x = torch.cat([torch.linspace(-12, 12, 20_001), torch.logspace(-30, 0, 301)])
    with torch.no_grad():
        rows = torch.arange(len(x))[:, None]
        padding = torch.zeros(len(x)).long()
        h = fused.unroll([cell], x[:, None], rows, [None], padding, at_every_word=False)[:, 0]
    expected = torch.tanh(x.double())
    assert ((h - expected).abs() <= 5e-7 * expected.abs()).all()


def test_ids_weights_and_masks_that_do_not_fit_are_no_access_to_memory() -> None:
    net, ids = SentimentRNN(9, 6, 5, engine="fused"), torch.ones(4, 3).long()
    for function in (net, evaluator_of(net)):
        for wrong in (-1, 9):
            with pytest.raises(IndexError, match="expected 0 to 8"):
                function(torch.tensor([[1, 2, wrong]]))
        with pytest.raises(TypeError, match="expected integers"):
            function(torch.ones(4, 3))
    for masks in ([torch.ones(3, 6), None], [None, torch.ones(4, 6)]):
        with pytest.raises(RuntimeError, match="must match"):
            net(ids, masks)
    for net.cell1 in (nn.RNNCell(5, 5).double(), nn.RNNCell(4, 5)):
        for use in (lambda: net(ids), lambda: evaluator_of(net)):
            with pytest.raises(ValueError, match="cell 1 has"):
                use()


def test_ids_masks_and_embedding_may_be_of_other_types_than_the_cells() -> None:
    net, ids = SentimentRNN(9, 6, 5, engine="fused").eval(), torch.ones(2, 3)
    expected = net(ids.long())
    net.embedding.double()
    masks = [torch.ones(2, 6).bool(), torch.ones(2, 5).bfloat16()]
    for dtype in (torch.uint8, torch.int16, torch.uint16, torch.int32):
        torch.testing.assert_close(net(ids.to(dtype), masks), expected)
        torch.testing.assert_close(evaluator_of(net)(ids.to(dtype)), expected)


def test_it_is_for_32_and_64_bits_on_cpus() -> None:
    net, ids = SentimentRNN(9, 6, 5, dropout=0).bfloat16(), torch.ones(2, 3).long()
    with pytest.raises(UserError, match=r"not torch.bfloat16; use --model.engine auto"):
        engine_for("fused", net.cells)
    with pytest.raises(UserError, match=r"expected a CPU, not meta; use --model.engine auto"):
        engine_for("fused", copy.deepcopy(net).to("meta").cells)
    assert torch.equal(net(ids), net.eval()(ids))  # auto takes the plain loop


def test_a_fork_has_threads_of_its_own(set_threads: Callable[[int], None]) -> None:
    set_threads(2)
    net, ids = SentimentRNN(9, 6, 5, dropout=0, engine="fused"), torch.ones(70, 3).long()

    def compare() -> None:
        sys.exit(not torch.equal(net(ids), expected))

    with torch.no_grad(), single_torch_thread():
        expected = net(ids)
        child = multiprocessing.get_context("fork").Process(target=compare)
        child.start()
        child.join(60)
        child.kill()
    assert child.exitcode == 0


def test_compiled_code_that_is_damaged_or_cannot_be_kept_is_compiled_again(tmp_path: Path) -> None:
    source = tmp_path / "own.py"
    source.write_text("def add_one(x):\n    return x + 1\n")
    add_one = runpy.run_path(str(source))["add_one"]
    for ending, size in (("nbc", 100), ("nbi", 0), ("nbi", 0)):
        assert kernels._Compiled(add_one)(1) == 2
        (kept,) = tmp_path.rglob(f"*.{ending}")
        os.truncate(kept, size)
    scope: dict[str, Any] = {}
    exec(source.read_text(), scope)  # of no file, beside which it could be kept
    assert kernels._Compiled(scope["add_one"])(1) == 2


def test_an_embedding_that_does_more_than_look_up_is_asked() -> None:
    net, ids = SentimentRNN(9, 6, 5, dropout=0), torch.tensor([[0, 1, 2], [3, 0, 0]])
    net.embedding = nn.Embedding(9, 6, padding_idx=0)
    expected, found = (gradients_of(net, engine, ids) for engine in ("reference", "fused"))
    assert not found["embedding.weight"][0].any()
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    net.embedding = nn.Sequential(net.embedding, nn.ReLU())  # type: ignore[assignment]
    torch.testing.assert_close(evaluator_of(net.eval())(ids), net(ids))


def test_a_compiled_network_asks_for_the_loops() -> None:
    net, ids = SentimentRNN(9, 6, 5, engine="fused").eval(), torch.ones(2, 3).long()
    for function in (net, evaluator_of(net)):
        found = torch.compile(function, backend="eager")(ids)
        torch.testing.assert_close(found, function(ids), atol=0, rtol=0)
