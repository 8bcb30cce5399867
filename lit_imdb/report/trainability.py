"""Whether the error reaches the first words: gradients through time, and saturated units.

Shapes: B reviews, T tokens, H hidden units, L cells.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from lit_imdb.data.loader import Split
from lit_imdb.data.text import PAD_ID
from lit_imdb.model.network import SentimentRNN
from lit_imdb.model.recurrence import hidden_states, padding_of

_REVIEWS = 32  # B
SATURATED = 0.95  # |h| above it: the slope of tanh, 1 - h^2, is below 0.1


@dataclass(frozen=True)
class Trainability:
    """What one forward and backward pass shows.

    Attributes:
        gradients: Mean norm of the gradient of a review's loss with respect to h_t (L, T).
        saturated: Share of hidden units whose tanh is nearly flat (L, T).
        spectral_norms: How much each recurrent matrix can stretch a hidden state (L,).
    """

    gradients: Tensor
    saturated: Tensor
    spectral_norms: Tensor

    def numbers(self) -> dict[str, float]:
        """Return three scalars per cell; `first_to_last`: 1 is ideal, 0 has vanished."""
        found = {
            "first_to_last": self.gradients[:, 0] / self.gradients[:, -1].clamp(min=1e-30),
            "saturation": self.saturated.mean(1),
            "spectral_norm": self.spectral_norms,
        }
        return {
            f"trainability/{name}_cell{cell}": value
            for name, values in found.items()
            for cell, value in enumerate(values.tolist())
        }


def measure(net: SentimentRNN, ids: Tensor, labels: Tensor) -> Trainability:
    """Run ids (B, T) and labels (B,) through the plain loop and back, without dropout."""
    with torch.inference_mode(False), torch.enable_grad():
        embedded = net.embedding(ids.clone())  # (B, T, E)
        states = hidden_states(net.cells, embedded, [None] * len(net.cells), padding_of(ids))
        logits = net.head(states[-1][-1]).squeeze(1)  # (B,)
        loss = binary_cross_entropy_with_logits(logits, labels.to(logits.dtype), reduction="sum")
        every = [state for cell in states for state in cell]  # L T of (B, H)
        gradients = torch.autograd.grad(loss, every)
    shape = (len(states), -1)
    norms = torch.stack(gradients).float().norm(dim=2).mean(1).view(shape)  # (L, T)
    flat = (torch.stack(every).detach().abs() > SATURATED).float().mean((1, 2)).view(shape)
    recurrent = torch.stack([cell.weight_hh.detach().float() for cell in net.cells])  # (L, H, H)
    return Trainability(norms.cpu(), flat.cpu(), torch.linalg.matrix_norm(recurrent, 2).cpu())


def measure_part(net: SentimentRNN, part: Split) -> Trainability:
    """Measure the same batch each time, spread evenly over the reviews that fill all T places."""
    rows = (part.ids[:, 0] != PAD_ID).nonzero().squeeze(1)
    if len(rows) < _REVIEWS:
        rows = torch.arange(len(part))
    rows = rows[torch.linspace(0, len(rows) - 1, min(_REVIEWS, len(rows))).long()]
    device = net.head.weight.device
    return measure(net, part.ids[rows].int().to(device), part.labels[rows].to(device))
