"""A network as a reader may change it, and a training by hand."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from lit_imdb.model.network import SentimentRNN

ON_GPU = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


class ThreeCells(SentimentRNN):
    """One more layer, and nothing else is told of it."""

    def reset_parameters(self) -> None:
        self.cell2 = nn.RNNCell(self.cell1.hidden_size, self.cell1.hidden_size)
        super().reset_parameters()

    @property
    def cells(self) -> tuple[nn.RNNCell, ...]:
        return *super().cells, self.cell2


def network(engine: Any = "auto", dropout: float = 0.2) -> SentimentRNN:
    torch.manual_seed(1)
    return SentimentRNN(50, 16, 32, dropout, engine)


def train(
    call: Callable[..., Tensor], net: Any, sizes: Any = (32,) * 5, at_every_word: bool = False
) -> list[Tensor]:
    """Train on batches of these sizes, two for each step; return the losses and the weights."""
    device, random = net.head.weight.device, torch.Generator().manual_seed(1)
    optimizer = torch.optim.Adam(net.train().parameters(), lr=0.01)
    losses = []
    for number, size in enumerate(sizes, 1):
        ids = torch.randint(2, 50, (size, 20), generator=random)
        ids[torch.arange(20) < torch.arange(size).unsqueeze(1) % 20] = 0  # mixed lengths
        masks = net.draw_masks(size, torch.Generator(device).manual_seed(number))
        logits = call(net, ids.int().to(device), masks, at_every_word=at_every_word)
        labels = (torch.arange(size, device=device) % 2).float()
        loss = binary_cross_entropy_with_logits(logits.view(size, -1).mean(1), labels)
        loss.backward()
        losses.append(loss.detach())
        if number % 2 == 0:
            optimizer.step()
            optimizer.zero_grad()
    return [torch.stack(losses), *(weight.detach() for weight in net.parameters())]
