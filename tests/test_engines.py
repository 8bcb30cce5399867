"""Every engine equals the plain loop, at every edge, and with any number of threads.

Shapes: B reviews, T tokens, V words, E embedding, H hidden units.
"""

import multiprocessing
import os
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import ON_GPU, ThreeCells
from torch import Tensor, nn

from lit_imdb.errors import UserError
from lit_imdb.model import fused, kernels, threads
from lit_imdb.model.module import LitSentiment
from lit_imdb.model.network import SentimentRNN, evaluator_of


@pytest.fixture(autouse=True)
def settings_as_before() -> Iterator[None]:
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    yield
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision(precision)


def answers_of(
    net: SentimentRNN, engine: str, ids: Tensor, masks: Any = None, at_every_word: bool = False
) -> dict[str, Tensor]:
    """Logits, influences, and the gradient of each trained parameter."""
    net.zero_grad()
    net.engine = engine
    logits = net(ids, masks, at_every_word)
    (logits.t() * torch.linspace(-1, 2, len(ids)).to(logits)).sum().backward()
    found = {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}
    return {"logits": logits.detach(), "influences": net.influences(ids), **found}


# (B, T, V, E, H): no review; one of all; odd sizes; a block of 32 reviews and one more; wider than
# a vector; the tutorial's
SIZES = [
    *((0, 3, 9, 6, 5), (1, 1, 2, 1, 1), (3, 4, 9, 7, 5), (33, 3, 20, 17, 18), (70, 2, 5, 33, 16)),
    (128, 80, 10_000, 100, 64),
]
SETUPS = [
    *(("fused", "cpu", dtype, size) for dtype in (torch.float32, torch.float64) for size in SIZES),
    ("cudnn", "cpu", torch.float32, (10, 7, 50, 6, 5)),
    pytest.param(("cudnn", "cuda", torch.float32, (10, 7, 50, 6, 5)), marks=ON_GPU),
    pytest.param(("reference", "cuda", torch.float32, (10, 7, 50, 6, 5)), marks=ON_GPU),
]
# dropout, whether at every word, what is frozen
WAYS = [
    *((0, False, "nothing"), (0.5, False, "nothing"), (0.5, True, "nothing")),
    *((0.5, False, "embedding"), (0, True, "cell")),
]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("setup", SETUPS, ids=str)
def test_every_engine_equals_the_plain_loop_without_a_warning(
    setup: tuple[Any, ...], way: tuple[Any, ...]
) -> None:
    engine, device, dtype, (reviews, tokens, *sizes) = setup
    dropout, at_every_word, frozen = way
    torch.manual_seed(0)
    net = ThreeCells(*sizes, dropout).to(dtype)
    for cell in net.cells:
        nn.init.normal_(cell.bias_hh.requires_grad_())
        nn.init.normal_(cell.bias_ih)
    for name, weight in net.named_parameters():
        weight.requires_grad_(not name.startswith(frozen))
    ids = torch.randint(sizes[0], (reviews, tokens))
    for number, review in enumerate(ids):
        review[: number % (tokens + 1)] = 0  # padding: reviews of 0 to T words
    masks = net.draw_masks(reviews)
    expected = answers_of(net, "reference", ids, masks, at_every_word)
    net, ids = net.to(device), ids.to(device)
    masks = [mask if mask is None else mask.to(device) for mask in masks]
    found = answers_of(net, engine, ids, masks, at_every_word)
    trained = {name for name, weight in net.named_parameters() if weight.requires_grad}
    assert found.keys() == expected.keys() == {"logits", "influences", *trained}
    assert found["logits"].shape == (ids.shape if at_every_word else ids.shape[:1])
    close = 1e-10 if dtype == torch.float64 else 1e-5 if device == "cpu" else 1e-4
    for name, value in expected.items():
        assert (found[name].cpu() - value).norm() <= close * value.norm(), name
    with torch.no_grad():
        net.eval()
        torch.testing.assert_close(evaluator_of(net)(ids), net(ids), atol=close, rtol=0)


def test_the_number_of_threads_changes_no_digit() -> None:
    found = []
    for number in (1, 2, 3, 8):
        torch.set_num_threads(number)
        torch.manual_seed(0)
        net, ids = SentimentRNN(), torch.randint(10_000, (130, 9))  # 5 blocks
        with threads.single_torch_thread():
            answers = answers_of(net, "fused", ids)
            found.append([dict(net.state_dict()), evaluator_of(net)(ids), answers])
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], atol=0, rtol=0)


def test_steps_and_evaluations_have_one_thread_of_torch_which_has_all_again_afterwards() -> None:
    torch.set_num_threads(3)
    lit = LitSentiment(engine="fused", vocab_size=9, embedding_dim=6, hidden_dim=5)
    seen = []

    def look(*_: Any) -> None:
        seen.append((torch.get_num_threads(), threads.thread_count()))

    def evaluate_and_fail() -> None:
        lit.predict_step(batch, 0)
        look()
        raise KeyError

    batch = torch.ones(2, 4, dtype=torch.int64), torch.ones(2)
    lit.net.head.register_forward_hook(look)
    lit.on_predict_epoch_start()
    with pytest.raises(KeyError):
        lit.optimizer_step(0, 0, torch.optim.SGD(lit.parameters(), 0.1), evaluate_and_fail)
    lit.validation_step(batch, 0)
    assert seen == [(1, 3)] * 3
    assert torch.get_num_threads() == threads.thread_count() == 3


def test_a_fork_has_threads_of_its_own() -> None:
    torch.set_num_threads(2)
    net, ids = SentimentRNN(9, 6, 5, dropout=0, engine="fused"), torch.ones(70, 3).long()
    with torch.no_grad(), threads.single_torch_thread():
        expected = net(ids)
        child = multiprocessing.get_context("fork").Process(
            target=lambda: sys.exit(not torch.equal(net(ids), expected))
        )
        child.start()
        child.join(60)
        child.kill()
    assert child.exitcode == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_so(value: float) -> None:
    net, ids = SentimentRNN(9, 6, 5, dropout=0), torch.tensor([[1, 2], [3, 4]])
    with torch.no_grad():
        net.embedding.weight[2, 0] = value
        net.cell0.weight_ih[0, 0] = 0.0  # 0 times infinity is NaN
    found = answers_of(net, "fused", ids)
    assert found["logits"].isnan().tolist() == [True, False]
    assert found["cell0.weight_ih"].isnan().any()


def test_tanh_is_within_some_last_digits() -> None:
    cell = nn.RNNCell(1, 1)
    for weight, value in zip(cell.parameters(), (1, 0, 0, 0), strict=True):
        nn.init.constant_(weight, value)  # weight_ih comes first
    x = torch.cat([torch.linspace(-12, 12, 20_001), torch.logspace(-30, 0, 301)])[:, None]
    rows, padding = torch.arange(len(x))[:, None], torch.zeros(len(x)).long()
    with torch.no_grad():
        h = fused.unroll([cell], x, rows, [None], padding, at_every_word=False)
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


def add_relu(net: SentimentRNN) -> None:
    net.add_module("embedding", nn.Sequential(net.embedding, nn.ReLU()))


# what is changed; which engines compute that, and which refuse
CHANGES: dict[str, tuple[Callable[[SentimentRNN], Any], str, str]] = {
    "GRU": (lambda net: net.add_module("cell1", nn.GRUCell(5, 5)), "auto", "fused cudnn"),
    "relu": (lambda net: setattr(net.cell1, "nonlinearity", "relu"), "auto", "fused cudnn"),
    "bfloat16": (lambda net: net.bfloat16(), "auto", "fused"),
    # it refuses to mix with CPU tensors, as a GPU does
    "another device": (lambda net: net.to("meta"), "auto cudnn", "fused"),
    "padding_idx": (lambda net: setattr(net.embedding, "padding_idx", 0), "auto fused cudnn", ""),
    "embedding with relu": (add_relu, "auto fused cudnn", ""),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_network_is_computed_as_by_the_plain_loop_or_refused(change: str) -> None:
    net, ids = SentimentRNN(9, 6, 5, dropout=0), torch.tensor([[0, 1, 2], [3, 0, 0]])
    apply, computing, refusing = CHANGES[change]
    apply(net)
    ids = ids.to(net.head.weight.device)
    expected = answers_of(net, "reference", ids)
    for engine in computing.split():
        found = answers_of(net, engine, ids)
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(evaluator_of(net)(ids), expected["logits"])
    for net.engine in refusing.split():
        for use in (lambda: net(ids), lambda: evaluator_of(net)):
            with pytest.raises(UserError, match=r"expected .*use --model\.engine auto"):
                use()


@pytest.mark.parametrize(("precision", "allowed"), [("high", True), ("highest", False)])
def test_tf32_is_used_only_where_torch_was_told_so(precision: str, allowed: bool) -> None:
    torch.set_float32_matmul_precision(precision)
    SentimentRNN(9, 6, 5, engine="cudnn")(torch.ones(2, 3).long())
    assert torch.backends.cudnn.allow_tf32 is allowed


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
