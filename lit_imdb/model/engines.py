"""The engines: ways to unroll the cells, which all compute the same from the same parameters.

`reference` is the plain loop, and unrolls other cells too; `fused` compiles it for the machine's
CPU; `cudnn` leaves it to NVIDIA.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from lit_imdb.errors import UserError
from lit_imdb.model.cudnn import cudnn
from lit_imdb.model.fused import fused
from lit_imdb.model.recurrence import Cells, reference
from lit_imdb.model.threads import single_torch_thread

Engine = Callable[..., Tensor]  # called like `reference`
ENGINES: dict[str, Engine] = {"reference": reference, "fused": fused, "cudnn": cudnn}


def engine_for(name: str, cells: Cells) -> Engine:
    """Return the engine called `name`; `auto` takes the fastest for the cells and their device.

    Raises:
        UserError: `name` is an engine for tanh cells or for CPUs, and these are others.
    """
    if name == "reference":
        return reference
    chosen = name
    if name == "auto":
        device = next(cells[0].parameters()).device
        chosen = {"cpu": "fused", "cuda": "cudnn"}.get(device.type, "reference")
    misfit = _misfit(chosen, cells)
    if misfit and name != "auto":
        raise UserError(f"--model.engine {name}: expected {misfit}; use --model.engine auto")
    return reference if misfit else ENGINES[chosen]


def _misfit(name: str, cells: Cells) -> str:
    """Return what a fast engine expects and finds instead, if it cannot compute these cells."""
    other = other_than_tanh(cells)
    if other is not None:
        return f"tanh nn.RNNCells, not {other}"
    weight = cells[0].weight_hh
    if name == "fused" and weight.device.type != "cpu":
        return f"a CPU, not {weight.device.type}"
    if name == "fused" and weight.dtype not in (torch.float32, torch.float64):
        return f"float32 or float64 weights, not {weight.dtype}"
    return ""


def step_threads(engine: Engine) -> AbstractContextManager[None]:
    """Return the context of a Trainer's step: one thread of torch while `fused` uses its own."""
    return single_torch_thread() if engine is fused else nullcontext()


def other_than_tanh(cells: Cells) -> nn.Module | None:
    """Return the first cell that the fast engines cannot compute, such as a GRU."""
    for cell in cells:
        if type(cell) is not nn.RNNCell or cell.nonlinearity != "tanh" or not cell.bias:
            return cell
        if not all(isinstance(w, nn.Parameter) for w in (cell.weight_ih, cell.weight_hh)):
            return cell  # weights computed in each call, as pruning does
    return None
