"""Training's forward and backward pass as CUDA graphs: two launches instead of hundreds.

Shapes: B reviews, T tokens.
"""

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from lit_imdb.model.cudnn import cudnn
from lit_imdb.model.engines import engine_for
from lit_imdb.model.network import SentimentRNN
from lit_imdb.model.recurrence import Masks

# torch has no public way to ask a module, or a weight, for its hooks
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class Graphs:
    """Calls a network in training, by graphs where it can.

    A graph repeats the same kernels on the same memory. So it takes the place of a call when sizes
    and weights are those of the call before, and Python has nothing to do in between: see
    `is_constant`.
    """

    def __init__(self) -> None:
        self._key: Any = None  # of the last call
        self._failed_key: Any = None  # of one that could not be captured
        self._replay: Any = None
        self._waits = False  # for the backward pass of a replay: the next one takes its memory
        self._handles: list[Any] = []

    def __reduce__(self) -> Any:
        return Graphs, ()  # a copy, or another process, captures graphs of its own

    def __call__(self, net: Any, ids: Tensor, masks: Masks, at_every_word: bool) -> Tensor:
        """Return `net(ids, masks, at_every_word=at_every_word)`."""
        key = self._key_of(net, ids, masks, at_every_word)
        if key != self._key:
            self._drop()
            self._key = key
        elif key is not None and self._replay is None and key != self._failed_key:
            self._capture(net, ids, masks, at_every_word)
        if self._replay is None or self._waits:
            return net(ids, masks, at_every_word=at_every_word)
        logits: Tensor = self._replay(ids, *_tensors(masks))
        self._waits = True
        logits.register_hook(self._backward_begins)  # type: ignore[no-untyped-call]
        return logits

    def _key_of(self, net: Any, ids: Tensor, masks: Masks, at_every_word: bool) -> Any:
        """Return what a graph is made for; None if there can be none."""
        if not is_constant(net, ids):
            return None
        weights = list(net.parameters())
        ours = bool(self._handles)
        if any(len(w._backward_hooks or ()) > (ours and w.requires_grad) for w in weights):
            return None  # a graph would contain the hooks of others, and they would run again
        of_weights = [(id(w), w.data_ptr(), w.requires_grad) for w in weights]
        sizes = [mask.shape for mask in _tensors(masks)]
        precision = torch.get_float32_matmul_precision()
        return ids.shape, ids.dtype, sizes, at_every_word, precision, of_weights

    def _capture(self, net: SentimentRNN, ids: Tensor, masks: Masks, at_every_word: bool) -> None:
        # copies: each replay reads its input from where the samples are
        samples = tuple(tensor.clone() for tensor in (ids, *_tensors(masks)))
        stream = torch.cuda.current_stream()
        try:
            self._replay = torch.cuda.make_graphed_callables(_Call(net, at_every_word), samples)
        except RuntimeError as error:  # a driver or a library that cannot, or too little memory
            torch.cuda.set_stream(stream)  # torch stays on that of the capture
            self._failed_key = self._key
            warnings.warn(f"training without CUDA graphs: {error}", stacklevel=3)
            return
        # The next replay overwrites the gradients in the graph's memory: .grad must not be there.
        self._handles = [
            weight.register_hook(torch.clone)  # type: ignore[no-untyped-call]
            for weight in net.parameters()
            if weight.requires_grad
        ]

    def _drop(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles, self._replay, self._waits = [], None, False

    def _backward_begins(self, gradient: Tensor) -> None:
        self._waits = False


class _Call(nn.Module):
    """A call of the network with tensors alone, as `make_graphed_callables` wants it."""

    def __init__(self, net: SentimentRNN, at_every_word: bool) -> None:
        super().__init__()
        self.net, self.at_every_word = net, at_every_word

    def forward(self, ids: Tensor, *masks: Tensor) -> Tensor:
        all_masks = masks or [None] * len(self.net.cells)
        return self.net(ids, all_masks, at_every_word=self.at_every_word)


def _tensors(masks: Masks) -> list[Tensor]:
    return [mask for mask in masks if mask is not None]


def is_constant(net: Any, ids: Tensor) -> bool:
    """Return whether each call launches the same kernels: one GPU trains by cuDNN, no hooks."""
    return (
        ids.is_cuda
        and type(net) is SentimentRNN
        and net.training
        and torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cuda")
        and not torch.is_anomaly_enabled()
        and not torch.compiler.is_compiling()
        and not (torch.distributed.is_available() and torch.distributed.is_initialized())
        and engine_for(net.engine, net.cells) is cudnn
        and not any(getattr(part, hooks) for part in net.modules() for hooks in _HOOKS)
    )
