"""Two stacked `nn.RNNCell` layers, unrolled by hand over the tokens of a review.

Shapes: B reviews, T tokens, V words, E embedding, H hidden units.

    ids (B, T) -> embedding (B, T, E) -> T steps of [cell0 -> cell1] -> h1 (B, H) -> logit (B,)
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lit_imdb.errors import UserError
from lit_imdb.model.engines import ENGINES, engine_for
from lit_imdb.model.fused import Evaluation, fused, unroll
from lit_imdb.model.recurrence import Masks, padding_of


class SentimentRNN(nn.Module):
    """The tutorial's network: from token ids to the logit of a positive review.

    Args:
        vocab_size: V, rows of the embedding. Row 0, padding, has no effect.
        embedding_dim: E, numbers per word.
        hidden_dim: H, units of both cells.
        dropout: Share of each cell's input that is zeroed in training.
        engine: How the cells are unrolled: auto, reference, fused or cudnn; see `model/engines.py`.

    Raises:
        UserError: A size below 1, dropout outside [0, 1) or an unknown engine.
    """

    def __init__(
        self,
        vocab_size: int = 10_000,
        embedding_dim: int = 100,
        hidden_dim: int = 64,
        dropout: float = 0.2,
        engine: Literal["auto", "reference", "fused", "cudnn"] = "auto",
    ) -> None:
        super().__init__()
        for name, size in (("embedding_dim", embedding_dim), ("hidden_dim", hidden_dim)):
            check_setting(name, size, size >= 1, "at least 1")
        check_setting("dropout", dropout, 0 <= dropout < 1, "0 to below 1")
        names = ("auto", *ENGINES)
        check_setting("engine", engine, engine in names, f"one of {', '.join(names)}")
        self.dropout = dropout
        self.engine = engine
        self.embedding = nn.Embedding(vocab_size, embedding_dim)
        self.cell0 = self.make_cell(embedding_dim, hidden_dim)
        self.cell1 = self.make_cell(hidden_dim, hidden_dim)
        self.head = nn.Linear(hidden_dim, 1)
        self.reset_parameters()

    def make_cell(self, inputs: int, units: int) -> Any:
        """Return one cell; for another, override this and `LitSentiment.make_network`."""
        return nn.RNNCell(inputs, units)

    @property
    def cells(self) -> tuple[nn.RNNCell, ...]:
        """The stack, in the order in which the cells read; all other code goes by this."""
        return self.cell0, self.cell1

    @property
    def looks_up_plainly(self) -> bool:
        """Whether the embedding does nothing but look up: then a loop can do that as it goes."""
        table = self.embedding
        if type(table) is not nn.Embedding or table.padding_idx is not None:
            return False
        if not isinstance(table.weight, nn.Parameter):  # computed in each call, as pruning does
            return False
        return table.max_norm is None and not table.scale_grad_by_freq and not table.sparse

    def reset_parameters(self) -> None:
        """Set Keras's initial values, so that the first epochs go as in the tutorial."""
        cells = [cell for cell in self.cells if isinstance(cell, nn.RNNCell)]  # others stay as made
        for cell in cells:
            # Keras's cell has one bias. Two that are added would learn at twice the rate, which
            # measured 2 points of test accuracy less.
            cell.bias_hh.requires_grad_(False)
        if self.head.weight.is_meta:
            return  # it has no values
        nn.init.uniform_(self.embedding.weight, -0.05, 0.05)
        for cell in cells:
            nn.init.xavier_uniform_(cell.weight_ih)
            # in 64 bits: the last digit of 32 would depend on the number of threads
            orthogonal = nn.init.orthogonal_(torch.empty_like(cell.weight_hh, dtype=torch.float64))
            with torch.no_grad():
                cell.weight_hh.copy_(orthogonal)
            nn.init.zeros_(cell.bias_ih)
            nn.init.zeros_(cell.bias_hh)
        nn.init.xavier_uniform_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(
        self, ids: Tensor, masks: Masks | None = None, at_every_word: bool = False
    ) -> Tensor:
        """Return logits (B,) of token ids (B, T), integers.

        Args:
            ids: Token ids.
            masks: What multiplies each cell's input, (B, E) and (B, H); by default `draw_masks`.
            at_every_word: Return the logits that the states at every token have (B, T).
        """
        if masks is None:
            masks = self.draw_masks(len(ids))
        padding = padding_of(ids)  # (B,)
        engine = engine_for(self.engine, self.cells)
        if engine is fused and self.looks_up_plainly:
            table = self.embedding.weight
            hidden = unroll(self.cells, table, ids, masks, padding, at_every_word)
        else:  # token by token, (T, B, E) in memory: the order in which the cells read
            embedded = self.embedding(ids.t()).transpose(0, 1)
            hidden = engine(self.cells, embedded, masks, padding, at_every_word)
        return self.head(hidden).squeeze(-1)  # (B,) of (B, H), (B, T) of (B, T, H)

    def draw_masks(self, reviews: int, generator: torch.Generator | None = None) -> Masks:
        """Return one dropout mask per review and cell, (B, E) and (B, H), shared by all T tokens.

        None instead of a mask in evaluation and without dropout.
        """
        if self.dropout == 0 or not self.training:
            return [None] * len(self.cells)
        keep = 1 - self.dropout
        weight = self.embedding.weight
        masks = [weight.new_empty(reviews, cell.input_size) for cell in self.cells]
        # as bernoulli_, in two thirds of the time
        return [mask.uniform_(generator=generator).lt_(keep).div_(keep) for mask in masks]

    def influences(self, ids: Tensor) -> Tensor:
        """Return each token's influence on the logit (B, T): its vector times the logit's gradient.

        To first order, what the logit would lose if the token's vector were zero; above 0 it speaks
        for `pos`. Source: Simonyan et al. 2014 (arXiv 1312.6034), with the sign kept; for texts
        Denil et al. 2014 (arXiv 1412.6815).
        """
        engine, masks = engine_for(self.engine, self.cells), [None] * len(self.cells)
        with torch.inference_mode(False), torch.enable_grad():
            embedded = self.embedding(ids.clone()).detach().requires_grad_()  # (B, T, E)
            hidden = engine(self.cells, embedded, masks, padding_of(ids))  # (B, H)
            logits = self.head(hidden)  # (B, 1)
            # on a GPU the gradient would be computed in a thread that has no CUDA context
            with torch.autograd.set_multithreading_enabled(False):
                (gradient,) = torch.autograd.grad(logits.sum(), embedded)
        return (gradient * embedded.detach()).sum(2)  # (B, T)


def evaluator_of(net: SentimentRNN) -> Callable[[Tensor], Tensor]:
    """Return the fastest way from ids (B, T) to logits (B,), until weights change."""
    engine = engine_for(net.engine, net.cells)
    if engine is not fused or not net.looks_up_plainly:
        return net.forward
    return Evaluation(net.cells, net.embedding.weight, net.head)


def network_of(
    settings: Mapping[str, Any], model: Callable[..., Any] | None = None
) -> SentimentRNN:
    """Build a network for the weights of a checkpoint, from its hyperparameters.

    Args:
        settings: May hold settings of others as well.
        model: The subclass of `LitSentiment` whose network it is. Without one it is `SentimentRNN`,
            on the meta device: a file's sizes, checked or not, need no memory there.
    """
    takes = inspect.signature(model or SentimentRNN).parameters
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in takes.values()):
        settings = {name: value for name, value in settings.items() if name in takes}
    if model:
        return model(**settings).net
    with torch.device("meta"), _NoInitialValues():
        return SentimentRNN(**settings)


class _NoInitialValues(TorchFunctionMode):
    """Skips `nn.init`, which on the meta device would import torch's compiler."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init":
            return None  # modules do not read what it returns
        return func(*args, **(kwargs or {}))


def check_setting(name: str, value: Any, holds: bool, expected: str) -> None:
    """Raise `UserError` unless `holds`."""
    if not holds:
        raise UserError(f"--model.{name} {value}: expected {expected}")
