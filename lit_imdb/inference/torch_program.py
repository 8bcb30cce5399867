"""The network as a PyTorch program: `torch.export` runs it without this package's code.

Shapes: B reviews, T tokens, E embedding, H hidden units.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lit_imdb.model.network import SentimentRNN
from lit_imdb.model.recurrence import padding_of


class _AnyLength(nn.Module):
    """The network with its loop inside the graph: a Python loop would fix T, and so does the
    export of `torch.rnn_tanh`."""

    def __init__(self, net: SentimentRNN) -> None:
        super().__init__()
        self.net = net

    def forward(self, ids: Tensor) -> Tensor:
        net, cells = self.net, self.net.cells
        words = net.embedding(ids.t())  # (T, B, E)
        padding = padding_of(ids).unsqueeze(1)  # (B, 1)

        def more(t: Tensor, *hidden: Tensor) -> Tensor:
            return torch.lt(t, words.shape[0])

        def step(t: Tensor, *hidden: Tensor) -> tuple[Tensor, ...]:
            below = words.index_select(0, t.unsqueeze(0)).squeeze(0)  # (B, E)
            reads = t >= padding  # (B, 1)
            after = [t + 1]
            for cell, before in zip(cells, hidden, strict=True):
                below = cell(below, before) * reads  # (B, H), 0 in front of the first word
                after.append(below)
            return tuple(after)

        first = [words.new_zeros(words.shape[1], cell.hidden_size) for cell in cells]  # (B, H)
        start = torch.zeros((), dtype=torch.int64, device=ids.device)
        loop: Any = torch.while_loop
        hidden = loop(more, step, (start, *first))[-1]  # (B, H)
        logits: Tensor = net.head(hidden).squeeze(1)  # (B,)
        return logits


@torch.no_grad()
def write_torch(net: SentimentRNN, path: Path) -> None:
    """Write `net` as a .pt2 file: ids int64 (B, T) in, logits float32 (B,) out, any B and T."""
    dimensions = {0: torch.export.Dim("reviews"), 1: torch.export.Dim("tokens")}
    example = torch.ones(3, 7, dtype=torch.int64)  # (B, T), any numbers above 1
    module = _AnyLength(net) if net.cells else net
    program = torch.export.export(
        module, (example,), dynamic_shapes={"ids": dimensions}, strict=False
    )
    torch.export.save(program, path)
