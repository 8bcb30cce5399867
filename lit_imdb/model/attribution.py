"""Which words move the logit: gradient x input.

Shapes: B reviews, T tokens, E embedding.
"""

from typing import Any

import torch
from torch import Tensor

from lit_imdb.model.recurrence import padding_of


def influences(net: Any, ids: Tensor) -> Tensor:
    """Influence of every token on the logit (B, T): its vector times the logit's gradient.

    To first order, what the logit would lose if the token's vector were zero; above 0 it speaks for
    `pos`. Source: Simonyan et al. 2014 (arXiv 1312.6034), with the sign kept; for texts Denil et
    al. 2014 (arXiv 1412.6815).
    """
    if hasattr(net, "influences"):  # it knows them exactly
        return net.influences(ids)
    with torch.inference_mode(False), torch.enable_grad():
        embedded = net.embedding(ids.clone()).detach().requires_grad_()  # (B, T, E)
        logits = net.logits_of(embedded, padding_of(ids))  # (B,)
        # on a GPU the gradient would be computed in a thread that has no CUDA context
        with torch.autograd.set_multithreading_enabled(False):
            (gradient,) = torch.autograd.grad(logits.sum(), embedded)
    return (gradient * embedded.detach()).sum(2)  # (B, T)
