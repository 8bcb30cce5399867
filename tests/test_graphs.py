"""Training by CUDA graphs, as far as that can be seen without a GPU: graphs are played here."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from lit_imdb import LitSentiment, SentimentRNN
from lit_imdb.model import graphs
from lit_imdb.model.graphs import Graphs


class Player:
    """Stands in for `torch.cuda.make_graphed_callables`: all results are in the same memory."""

    def __init__(self) -> None:
        self.captured: list[torch.Size] = []  # sizes of ids

    def __call__(self, module: Any, samples: tuple[Tensor, ...]) -> Callable[..., Tensor]:
        self.captured.append(samples[0].shape)
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
def player(monkeypatch: pytest.MonkeyPatch) -> Player:
    player = Player()
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", player)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: "the usual stream")
    monkeypatch.setattr(graphs, "is_constant", lambda net, ids: True)
    return player


def batches(*sizes: tuple[int, int]) -> list[tuple[Tensor, Tensor]]:
    """Ids (B, T) of mixed lengths, and labels (B,)."""
    torch.manual_seed(1)
    made = []
    for reviews, steps in sizes:
        ids = torch.randint(2, 20, (reviews, steps))
        ids[torch.arange(steps) < torch.arange(reviews).unsqueeze(1) % steps] = 0
        made.append((ids, torch.arange(reviews) % 2.0))
    return made


def gradients(call: Callable[..., Tensor], *sizes: tuple[int, int]) -> list[Tensor]:
    """Sums of the gradients of two steps each, which Adam then uses."""
    data = batches(*sizes)
    net = SentimentRNN(20, 6, 5, engine="cudnn").train()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    found = []
    for number, (ids, labels) in enumerate(data, 1):
        masks = net.draw_masks(len(ids), torch.Generator().manual_seed(number))
        loss = binary_cross_entropy_with_logits(call(net, ids, masks, at_every_word=False), labels)
        loss.backward()
        if number % 2 == 0:
            found += [w.grad.clone() for w in net.parameters() if w.grad is not None]
            optimizer.step()
            optimizer.zero_grad()
    return found


SAME = [(8, 5)] * 6
plain = SentimentRNN.__call__


def test_the_second_batch_of_a_size_is_captured_and_gradients_are_the_same(player: Player) -> None:
    torch.testing.assert_close(gradients(Graphs(), *SAME), gradients(plain, *SAME))
    assert player.captured == [(8, 5)]


def test_another_size_is_captured_anew_and_changing_ones_never(player: Player) -> None:
    sizes = [(8, 5), (8, 5), (4, 5), (8, 5), (4, 5), (4, 5)]
    torch.testing.assert_close(gradients(Graphs(), *sizes), gradients(plain, *sizes))
    assert player.captured == [(8, 5), (4, 5)]


def test_what_cannot_be_captured_is_trained_without_after_one_warning(
    player: Player, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing")

    streams: list[Any] = []
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", refuse)
    monkeypatch.setattr(torch.cuda, "set_stream", streams.append)
    with pytest.warns(UserWarning, match="without CUDA graphs: operation not permitted") as seen:
        found = gradients(Graphs(), *SAME)
    assert len(seen) == 1
    assert streams == ["the usual stream"]
    torch.testing.assert_close(found, gradients(plain, *SAME))


def step(graphs: Callable[..., Tensor], net: SentimentRNN) -> Tensor:
    return graphs(net, torch.arange(2, 12).view(2, 5), [None, None], at_every_word=False).sum()


def test_weights_that_are_freed_are_trained_and_hooks_run_once(player: Player) -> None:
    graphs, net = Graphs(), SentimentRNN(20, 6, 5).train()
    net.embedding.requires_grad_(False)
    for _ in range(3):
        step(graphs, net).backward()
    assert len(player.captured) == 1
    net.embedding.requires_grad_(True)
    for _ in range(2):
        step(graphs, net).backward()
    assert net.embedding.weight.grad is not None
    assert len(player.captured) == 2
    called: list[Tensor] = []
    net.head.bias.register_hook(called.append)
    for _ in range(3):
        step(graphs, net).backward()
    assert len(called) == 3
    assert len(player.captured) == 2


def test_two_calls_before_a_backward_pass_have_the_gradients_of_both(player: Player) -> None:
    graphs, net = Graphs(), SentimentRNN(20, 6, 5).train()
    found = []
    for call in (plain, graphs, graphs, graphs):
        net.zero_grad()
        (step(call, net) * 2 + step(call, net) * 3).backward()
        found.append([w.grad for w in net.parameters() if w.grad is not None])
    assert player.captured
    torch.testing.assert_close(found[-1], found[0])


def test_a_model_with_graphs_can_be_copied_and_pickled(player: Player) -> None:
    lit = LitSentiment(vocab_size=20, embedding_dim=6, hidden_dim=5).train()
    for _ in range(3):
        step(lit.graphs, lit.net).backward()
    for copied in (copy.deepcopy(lit), pickle.loads(pickle.dumps(lit))):
        step(copied.graphs, copied.net).backward()
    assert len(player.captured) == 1


def test_a_cpu_trains_without_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", None)
    gradients(Graphs(), *SAME)
