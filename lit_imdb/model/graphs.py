"""Training's forward and backward pass as CUDA graphs: two launches instead of hundreds.

Shapes: B reviews, T tokens.
"""

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from lit_imdb.model.cudnn import cudnn
from lit_imdb.model.network import SentimentRNN
from lit_imdb.model.recurrence import Masks, engine_for

# torch has no public way to ask a module for its hooks
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class Graphs:
    """Calls a network in training, by graphs where it can.

    A graph repeats the same kernels on the same memory. So it takes the place of a call when sizes
    and weights are those of the call before, and Python has nothing to do in between: see
    `is_constant`. A call's backward pass must have ended before the next call.
    """

    def __init__(self) -> None:
        self._key: Any = None  # of the last call
        self._replay: Any = None
        self._handles: list[Any] = []
        self._works = True

    def __call__(self, net: Any, ids: Tensor, masks: Masks, at_every_word: bool) -> Tensor:
        """Return `net(ids, masks, at_every_word=at_every_word)`."""
        key = _key_of(net, ids, masks, at_every_word) if self._works else None
        if key is None or key != self._key:
            self._key, self._replay = key, None
        elif self._replay is None:
            try:
                self._capture(net, ids, masks, at_every_word)
            except RuntimeError as error:  # a driver or a library that cannot
                self._works = False
                warnings.warn(f"training without CUDA graphs: {error}", stacklevel=2)
        if self._replay is None:
            logits: Tensor = net(ids, masks, at_every_word=at_every_word)
        else:
            logits = self._replay(ids, *_tensors(masks))
        return logits

    def _capture(self, net: SentimentRNN, ids: Tensor, masks: Masks, at_every_word: bool) -> None:
        for handle in self._handles:
            handle.remove()
        # copies: each replay reads its input from where the samples are
        samples = tuple(tensor.clone() for tensor in (ids, *_tensors(masks)))
        self._replay = torch.cuda.make_graphed_callables(_Call(net, at_every_word), samples)
        # The next replay overwrites the gradients in the graph's memory: .grad must not be there.
        self._handles = [
            weight.register_hook(torch.clone)  # type: ignore[no-untyped-call]
            for weight in net.parameters()
            if weight.requires_grad
        ]


class _Call(nn.Module):
    """A call of the network with tensors alone, as `make_graphed_callables` wants it."""

    def __init__(self, net: SentimentRNN, at_every_word: bool) -> None:
        super().__init__()
        self.net, self.at_every_word = net, at_every_word

    def forward(self, ids: Tensor, *masks: Tensor) -> Tensor:
        all_masks = masks or [None] * len(self.net.cells)
        logits: Tensor = self.net(ids, all_masks, at_every_word=self.at_every_word)
        return logits


def _key_of(net: Any, ids: Tensor, masks: Masks, at_every_word: bool) -> Any:
    """Return what a graph is made for; None if there can be none."""
    if not is_constant(net, ids):
        return None
    weights = [weight.data_ptr() for weight in net.parameters()]
    sizes = [mask.shape for mask in _tensors(masks)]
    return ids.shape, ids.dtype, sizes, at_every_word, torch.get_float32_matmul_precision(), weights


def _tensors(masks: Masks) -> list[Tensor]:
    return [mask for mask in masks if mask is not None]


def is_constant(net: Any, ids: Tensor) -> bool:
    """Whether each call launches the same kernels: one GPU trains by cuDNN, and no hook watches."""
    return (
        ids.is_cuda
        and type(net) is SentimentRNN
        and net.training
        and torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cuda")
        and not torch.is_anomaly_enabled()
        and not torch.compiler.is_compiling()
        and not (torch.distributed.is_available() and torch.distributed.is_initialized())
        and engine_for(net.engine, ids.device, net.cells) is cudnn
        and not any(getattr(part, hooks) for part in net.modules() for hooks in _HOOKS)
    )
