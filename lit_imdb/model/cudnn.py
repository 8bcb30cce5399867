"""The `cudnn` engine: one launch of NVIDIA's kernel per cell, instead of three per token.

Shapes: B reviews, T tokens, E features of a cell's input, H hidden units.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def cudnn(
    cells: Sequence[nn.RNNCell],
    inputs: Tensor,
    masks: Sequence[Tensor | None],
    padding: Tensor,
    at_every_word: bool = False,
) -> Tensor:
    """Compute the same as the plain loop by `torch.rnn_tanh`, which on CUDA is cuDNN's kernel.

    It reads every token, so reviews are shifted to begin at the first place, and the states back.
    On CUDA it sets `torch.backends.cudnn.allow_tf32`, since the backward pass reads it later:
    float32 is rounded to TF32 only after `torch.set_float32_matmul_precision` has allowed it.
    """
    torch.backends.cudnn.allow_tf32 = torch.get_float32_matmul_precision() != "highest"
    reviews, steps, features = inputs.shape
    place = torch.arange(steps, device=inputs.device)  # (T,)
    place = (place.unsqueeze(1) + padding) % steps  # (T, B), where the word at each place stands
    states = inputs.transpose(0, 1)  # (T, B, E)
    states = states.gather(0, place.unsqueeze(2).expand(steps, reviews, features))
    for cell, mask in zip(cells, masks, strict=True):
        if mask is not None:
            states = states * mask
        first = states.new_zeros(1, reviews, cell.hidden_size)
        train = torch.is_grad_enabled()  # otherwise cuDNN has no backward pass
        weights = _in_one_chunk(cell)
        states, _ = torch.rnn_tanh(  # (T, B, H)
            states, first, weights, True, 1, 0.0, train, False, False
        )
    first_asked = 0 if at_every_word else steps - 1
    asked = torch.arange(first_asked, steps, device=inputs.device)  # (T,) or (1,)
    place = asked.unsqueeze(1) - padding  # (T, B), below 0 in front of the first word
    index = place.clamp(min=0).unsqueeze(2).expand(-1, -1, states.shape[2])
    found = states.gather(0, index) * (place >= 0).unsqueeze(2)  # (T, B, H)
    return found.transpose(0, 1) if at_every_word else found[0]


def _in_one_chunk(cell: nn.RNNCell) -> list[Tensor]:
    """Return a cell's weights, moved into one piece of memory, as cuDNN wants them, on CUDA.

    They stay the parameters of the `nn.RNNCell`: a passing `nn.RNN` that shares them moves them.
    """
    weights: list[Tensor] = [cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh]
    if weights[0].is_cuda and len({w.untyped_storage().data_ptr() for w in weights}) > 1:
        with torch.device("meta"):
            mover = nn.RNN(cell.input_size, cell.hidden_size)
        mover.weight_ih_l0, mover.weight_hh_l0 = cell.weight_ih, cell.weight_hh
        mover.bias_ih_l0, mover.bias_hh_l0 = cell.bias_ih, cell.bias_hh
        mover.flatten_parameters()
    return weights
