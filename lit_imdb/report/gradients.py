"""Whether the error reaches the first words: gradients through time, and saturated units.

Shapes: B reviews, T tokens, H hidden units, L cells.
"""

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from lit_imdb.data.loader import Split
from lit_imdb.data.text import PAD_ID
from lit_imdb.model.network import SentimentRNN
from lit_imdb.model.recurrence import hidden_states, padding_of
from lit_imdb.report.figures import CELLS, new_figure

_REVIEWS = 32  # B
_SATURATED = 0.95  # |h| above it: the slope of tanh, 1 - h^2, is below 0.1


def measure(net: SentimentRNN, split: Split) -> tuple[Tensor, dict[str, float]]:
    """Run one batch through the plain loop and back, without dropout.

    It is the same batch each time, spread evenly over the reviews that fill all T places.

    Returns:
        The mean norm of the gradient of a review's loss with respect to h_t (L, T), and for each
        cell: the first norm divided by the last (1 is ideal, 0 has vanished), the share of hidden
        units whose tanh is nearly flat, and how much `weight_hh` can stretch a hidden state.
    """
    rows = (split.ids[:, 0] != PAD_ID).nonzero().squeeze(1)
    if len(rows) < _REVIEWS:
        rows = torch.arange(len(split.labels))
    rows = rows[torch.linspace(0, len(rows) - 1, min(_REVIEWS, len(rows))).long()]
    device = net.head.weight.device
    ids, labels = split.ids[rows].to(device), split.labels[rows].to(device)  # (B, T), (B,)
    with torch.inference_mode(False), torch.enable_grad():
        embedded = net.embedding(ids.clone())  # (B, T, E)
        states = hidden_states(net.cells, embedded, [None] * len(net.cells), padding_of(ids))
        logits = net.head(states[-1][-1]).squeeze(1)  # (B,)
        loss = binary_cross_entropy_with_logits(logits, labels.to(logits.dtype), reduction="sum")
        flat_states = [state for cell in states for state in cell]  # L T of (B, H)
        gradients = torch.autograd.grad(loss, flat_states)
    norms = torch.stack(gradients).float().norm(dim=2).mean(1).view(len(states), -1)  # (L, T)
    flat = torch.stack(flat_states).detach().abs() > _SATURATED  # (L T, B, H)
    recurrent = torch.stack([cell.weight_hh.detach().float() for cell in net.cells])  # (L, H, H)
    found = {
        "first_to_last": norms[:, 0] / norms[:, -1].clamp(min=1e-30),
        "saturation": flat.view(len(states), -1).float().mean(1),
        "spectral_norm": torch.linalg.matrix_norm(recurrent, 2),
    }
    return norms.cpu(), {
        f"vanishing/{name}_cell{cell}": value
        for name, values in found.items()
        for cell, value in enumerate(values.tolist())
    }


def draw_gradients(norms: Tensor) -> Figure:
    """Draw norms (L, T), one line per cell."""
    # the ticks of a log axis take as long to draw as all else
    figure, axes = new_figure("token, in reading order", "log10 of the gradient's norm")
    for cell, row in enumerate(norms.clamp(min=1e-12).log10().numpy()):
        style = CELLS[cell % len(CELLS)]
        axes.plot(range(1, len(row) + 1), row, label=f"cell{cell}", linewidth=2, **style)
    axes.legend()
    return figure
