"""The network as an ONNX graph, written operator by operator.

`torch.onnx.export` would unroll the loop over the tokens and so fix their number. ONNX has the
recurrence as an operator of its own, RNN with tanh. It reads as many words as a review has from the
first place on, but ours stand at the end: so the tokens are turned round and RNN reads backwards.

Shapes: B reviews, T tokens, V words, E embedding, H hidden units.

    ids (B, T) -> has_begun (B, T) -> lengths (B,)
    ids (B, T) -> last token first (T, B) -> words (T, B, E) -> RNN (T, B, H) -> RNN (T, B, H)
    -> its state at the first (B, H) -> logits (B,)
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lit_imdb.errors import UserError
from lit_imdb.model.network import SentimentRNN

# The one that brought today's RNN. Later ones only add types that this graph does not use, and
# would shut out older runtimes, such as the last onnxruntime for Python 3.10.
OPSET = 22
_INT32 = 6  # onnx.TensorProto's number


def write_onnx(net: SentimentRNN, path: Path) -> None:
    """Write `net`: ids int64 (B, T) in, logits float32 (B,) out, for any B and T.

    A network may bring a graph of its own, `onnx_graph`: see `NGrams`.

    Raises:
        UserError: The package onnx is missing.
    """
    try:
        import onnx
        from onnx.helper import make_node, make_tensor_value_info
    except ImportError as error:
        raise UserError("the package onnx is missing: pip install onnx onnxruntime") from error
    own = getattr(net, "onnx_graph", None)
    nodes, constants = own(make_node) if own else _graph_of(net, make_node)
    graph = onnx.helper.make_graph(
        nodes,
        "sentiment",
        [make_tensor_value_info("ids", onnx.TensorProto.INT64, ["reviews", "tokens"])],
        [make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["reviews"])],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opset = [onnx.helper.make_opsetid("", OPSET)]
    model = onnx.helper.make_model(
        graph,
        producer_name="lit-imdb",
        opset_imports=opset,
        ir_version=onnx.helper.find_min_ir_version_for(opset),
    )
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def _graph_of(net: SentimentRNN, make_node: Callable[..., Any]) -> tuple[list[Any], dict[str, Any]]:
    """Return the operators from `ids` to `logits`, and their constants."""
    nodes = [
        make_node("Sign", ["ids"], ["is_word"]),  # (B, T), 0 is padding
        make_node("CumSum", ["is_word", "one"], ["words_so_far"]),
        make_node("Sign", ["words_so_far"], ["has_begun"]),
        make_node("ReduceSum", ["has_begun", "axis_1"], ["places"], keepdims=0),
        make_node("Cast", ["places"], ["lengths"], to=_INT32),  # (B,)
        make_node("Transpose", ["ids"], ["ids_by_token"], perm=[1, 0]),  # (T, B)
        make_node("Slice", ["ids_by_token", "end", "start", "axis_0", "step"], ["ids_reversed"]),
        make_node("Gather", ["embedding", "ids_reversed"], ["vectors"]),  # (T, B, E)
    ]
    constants = {
        "embedding": net.embedding.weight,  # (V, E)
        "head_weight": net.head.weight,  # (1, H)
        "head_bias": net.head.bias,  # (1,)
        "zero": torch.tensor(0),
        "one": torch.tensor(1),
        "axis_0": torch.tensor([0]),
        "axis_1": torch.tensor([1]),
        "end": torch.tensor([-1]),
        "start": torch.tensor([torch.iinfo(torch.int64).min]),
        "step": torch.tensor([-1]),
    }
    below = "vectors"
    for layer, cell in enumerate(net.cells):
        weights = {  # with an axis for the directions of an RNN, which its states have, too
            f"W{layer}": cell.weight_ih[None],  # (1, H, E) or (1, H, H)
            f"R{layer}": cell.weight_hh[None],  # (1, H, H)
            f"B{layer}": torch.cat([cell.bias_ih, cell.bias_hh])[None],  # (1, 2 H)
        }
        constants |= weights
        inputs, states, size = [below, *weights, "lengths"], f"states{layer}", cell.hidden_size
        below = f"below{layer}"
        nodes += [
            make_node("RNN", inputs, [states], hidden_size=size, direction="reverse"),
            make_node("Squeeze", [states, "axis_1"], [below]),  # (T, B, H) of (T, 1, B, H)
        ]
    nodes += [
        make_node("Gather", [below, "zero"], ["hidden"]),  # (B, H)
        make_node("Gemm", ["hidden", "head_weight", "head_bias"], ["column"], transB=1),  # (B, 1)
        make_node("Squeeze", ["column", "axis_1"], ["logits"]),  # (B,)
    ]
    return nodes, {name: tensor.detach().numpy() for name, tensor in constants.items()}
