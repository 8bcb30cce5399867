"""Whether the error reaches the first words: gradients through time, and saturated units.

Shapes: B reviews, T tokens, H hidden units, L cells.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from lit_imdb.data.encoded import Part
from lit_imdb.data.text import PAD_ID
from lit_imdb.model.network import SentimentRNN
from lit_imdb.model.recurrence import has_begun, hidden_states

REVIEWS = 32  # of the batch that is looked at
SATURATED = 0.95  # |h| above it: the slope of tanh, 1 - h^2, is below 0.1


@dataclass(frozen=True)
class Trainability:
    """Both (L, T), a row for each cell.

    Attributes:
        gradients: Mean norm of the gradient of a review's loss with respect to h_t.
        saturated: Share of hidden units whose tanh is nearly flat.
    """

    gradients: Tensor
    saturated: Tensor

    def first_to_last(self) -> list[float]:
        """For each cell the first gradient divided by the last: 1 is ideal, 0 has vanished."""
        ends = self.gradients[:, [0, -1]].clamp(min=torch.finfo(torch.float32).tiny)
        ratios: list[float] = (ends[:, 0] / ends[:, 1]).tolist()
        return ratios


def fixed_batch(part: Part) -> tuple[Tensor, Tensor]:
    """The same ids (B, T) and labels (B,) each time, evenly spread over a part.

    Reviews that fill all T places, as far as there are enough: the gradient at padding says little.
    """
    rows = (part.ids[:, 0] != PAD_ID).nonzero().squeeze(1)
    if len(rows) < REVIEWS:
        rows = torch.arange(len(part))
    rows = rows[torch.linspace(0, len(rows) - 1, min(REVIEWS, len(rows))).long()]
    return part.ids[rows].int(), part.labels[rows].float()


def look(net: SentimentRNN, ids: Tensor, labels: Tensor) -> Trainability:
    """Sends a batch through the plain loop, without dropout, and the error back."""
    with torch.inference_mode(False), torch.enable_grad():
        embedded = net.embedding(ids.clone())  # (B, T, E)
        states = hidden_states(net.cells, embedded, [None] * len(net.cells), has_begun(ids))
        logits = net.head(states[-1][-1]).squeeze(1)  # (B,)
        loss = binary_cross_entropy_with_logits(logits, labels.clone(), reduction="sum")
        every = [state for cell in states for state in cell]
        gradients = torch.autograd.grad(loss, every)  # L T of (B, H)
    shape = (len(states), -1)
    norms = torch.stack(gradients).float().norm(dim=2).mean(1).view(shape)  # (L, T)
    flat = (torch.stack(every).detach().abs() > SATURATED).float().mean((1, 2)).view(shape)
    return Trainability(norms.cpu(), flat.cpu())


def spectral_norms(net: SentimentRNN) -> list[float]:
    """Of each recurrent matrix: how much one step can stretch a hidden state."""
    with torch.no_grad():
        return [float(torch.linalg.matrix_norm(c.weight_hh.float(), 2)) for c in net.cells]
