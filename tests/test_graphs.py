"""Training by CUDA graphs, as far as that can be seen without a GPU: graphs are played here."""

import copy
import pickle
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from networks import network, train
from torch import Tensor

from lit_imdb import LitSentiment, SentimentRNN
from lit_imdb.model import graphs
from lit_imdb.model.graphs import Graphs


def play(module: Any, samples: tuple[Tensor, ...]) -> Callable[..., Tensor]:
    """Stands in for `torch.cuda.make_graphed_callables`: all results are in the same memory."""
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    logits: list[Tensor] = []
    static = [torch.empty_like(weight) for weight in weights]

    class Replay(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Tensor) -> Tensor:
            for sample, given in zip(samples, inputs[: len(samples)], strict=True):
                sample.copy_(given)
            with torch.enable_grad():
                logits[:] = [module(*samples)]
            return logits[0].detach()

        @staticmethod
        def backward(ctx: Any, incoming: Tensor) -> tuple[Tensor | None, ...]:
            found = torch.autograd.grad(logits[0], weights, incoming)
            for memory, gradient in zip(static, found, strict=True):
                memory.copy_(gradient)
            return (*[None] * len(samples), *(memory.detach() for memory in static))

    return lambda *inputs: Replay.apply(*inputs, *weights)


@pytest.fixture
def capture(monkeypatch: pytest.MonkeyPatch) -> Mock:
    capture = Mock(side_effect=play)
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", capture)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: "the usual stream")
    monkeypatch.setattr(graphs, "is_constant", lambda net, ids: True)
    return capture


plain = SentimentRNN.__call__


@pytest.mark.parametrize(("sizes", "captures"), [([8] * 6, 1), ([8, 8, 4, 8, 4, 4], 2)])
def test_a_size_is_captured_when_it_comes_twice_in_a_row_and_training_is_the_same(
    sizes: list[int], captures: int, capture: Mock
) -> None:
    found, expected = (train(call, network("cudnn"), sizes) for call in (Graphs(), plain))
    torch.testing.assert_close(found, expected)
    assert capture.call_count == captures


def test_what_cannot_be_captured_is_trained_without_after_one_warning(
    capture: Mock, monkeypatch: pytest.MonkeyPatch
) -> None:
    capture.side_effect = RuntimeError("operation not permitted when stream is capturing")
    set_stream = Mock()
    monkeypatch.setattr(torch.cuda, "set_stream", set_stream)
    with pytest.warns(UserWarning, match="without CUDA graphs: operation not permitted") as seen:
        found = train(Graphs(), network("cudnn"))
    assert len(seen) == 1
    set_stream.assert_called_once_with("the usual stream")
    torch.testing.assert_close(found, train(plain, network("cudnn")))


def test_a_cpu_trains_without_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", None)
    train(Graphs(), network("cudnn"))


def call(graphs: Callable[..., Tensor], net: SentimentRNN) -> Tensor:
    return graphs(net, torch.arange(2, 12).view(2, 5), [None, None], at_every_word=False).sum()


def test_weights_that_are_freed_are_trained_and_hooks_run_once(capture: Mock) -> None:
    graphs, net = Graphs(), SentimentRNN(20, 6, 5).train()
    called: list[Tensor] = []
    for change in (
        lambda: net.embedding.requires_grad_(False),
        lambda: net.embedding.requires_grad_(True),
        lambda: net.head.bias.register_hook(called.append),
    ):
        change()
        for _ in range(3):
            call(graphs, net).backward()
    assert net.embedding.weight.grad is not None
    assert len(called) == 3
    assert capture.call_count == 2


def test_two_calls_before_a_backward_pass_have_the_gradients_of_both(capture: Mock) -> None:
    graphs, net = Graphs(), SentimentRNN(20, 6, 5).train()
    found = []
    for way in (plain, graphs, graphs, graphs):
        net.zero_grad()
        (call(way, net) * 2 + call(way, net) * 3).backward()
        found.append([w.grad for w in net.parameters() if w.grad is not None])
    assert capture.called
    torch.testing.assert_close(found[-1], found[0])


def test_a_model_with_graphs_can_be_copied_and_pickled(capture: Mock) -> None:
    lit = LitSentiment(vocab_size=20, embedding_dim=6, hidden_dim=5).train()
    for _ in range(3):
        call(lit.graphs, lit.net).backward()
    for copied in (copy.deepcopy(lit), pickle.loads(pickle.dumps(lit))):
        call(copied.graphs, copied.net).backward()
    assert capture.call_count == 1
