"""The network as an ONNX graph, written operator by operator.

`torch.onnx.export` would unroll the loop over the tokens and so fix their number. ONNX has the
recurrence as an operator of its own, RNN with tanh. It reads as many words as a review has from the
first place on, but ours stand at the end: so the tokens are turned round and RNN reads backwards.

Shapes: B reviews, T tokens, V words, E embedding, H hidden units.

    ids (B, T) -> has_begun (B, T) -> lengths (B,)
    ids (B, T) -> last token first (T, B) -> words (T, B, E) -> RNN (T, B, H) -> RNN (B, H)
    -> logits (B,)
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lit_imdb.errors import UserError
from lit_imdb.model.network import SentimentRNN

# The one that brought today's RNN. Later ones only add types that this graph does not use, and
# would shut out older runtimes, such as the last onnxruntime for Python 3.10.
OPSET = 22
_INT32, _BOOL = 6, 9  # onnx.TensorProto's numbers


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
    nodes, constants = own(make_node) if own else (_nodes(net, make_node), _weights(net))
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


def _nodes(net: SentimentRNN, make_node: Callable[..., Any]) -> list[Any]:
    """The graph's operators from `ids` to `logits`."""
    nodes = [
        make_node("Cast", ["ids"], ["is_word"], to=_BOOL),  # (B, T), 0 is padding
        make_node("Cast", ["is_word"], ["words"], to=_INT32),
        make_node("CumSum", ["words", "axis"], ["words_so_far"]),
        make_node("Cast", ["words_so_far"], ["has_begun"], to=_BOOL),
        make_node("Cast", ["has_begun"], ["places"], to=_INT32),
        make_node("ReduceSum", ["places", "axis_1"], ["lengths"], keepdims=0),  # (B,)
        make_node("Transpose", ["ids"], ["ids_by_token"], perm=[1, 0]),  # (T, B)
        make_node("Slice", ["ids_by_token", "end", "start", "axis_0", "step"], ["ids_reversed"]),
        make_node("Gather", ["embedding", "ids_reversed"], ["vectors"]),  # (T, B, E)
    ]
    # An RNN's states have an axis for its directions, (T, 1, B, H), and so has its last one.
    below = "vectors"
    for layer, cell in enumerate(net.cells):
        if layer > 0:
            below = f"below{layer}"
            nodes.append(make_node("Squeeze", [f"states{layer - 1}", "axis_1"], [below]))
        weights = [f"{name}{layer}" for name in "WRB"]
        states = [f"states{layer}", f"last{layer}"]  # (T, 1, B, H), (1, B, H)
        inputs = [below, *weights, "lengths"]
        size = cell.hidden_size
        nodes.append(make_node("RNN", inputs, states, hidden_size=size, direction="reverse"))
    nodes += [
        make_node("Squeeze", [states[1], "axis_0"], ["hidden"]),  # (B, H)
        make_node("Gemm", ["hidden", "head_weight", "head_bias"], ["column"], transB=1),  # (B, 1)
        make_node("Squeeze", ["column", "axis_1"], ["logits"]),  # (B,)
    ]
    return nodes


def _weights(net: SentimentRNN) -> dict[str, np.ndarray]:
    """The graph's constants; RNN wants an axis for its directions in front of each weight."""
    arrays = {
        "embedding": net.embedding.weight.detach().numpy(),  # (V, E)
        "head_weight": net.head.weight.detach().numpy(),  # (1, H)
        "head_bias": net.head.bias.detach().numpy(),  # (1,)
        "axis_0": np.array([0]),
        "axis_1": np.array([1]),
        "axis": np.array(1),
        "end": np.array([-1]),
        "start": np.array([np.iinfo(np.int64).min]),
        "step": np.array([-1]),
    }
    for layer, cell in enumerate(net.cells):
        w_ih, w_hh, b_ih, b_hh = (
            tensor.detach().numpy()
            for tensor in (cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)
        )
        arrays[f"W{layer}"] = w_ih[None]  # (1, H, E), or (1, H, H)
        arrays[f"R{layer}"] = w_hh[None]  # (1, H, H)
        arrays[f"B{layer}"] = np.concatenate([b_ih, b_hh])[None]  # (1, 2 H)
    return arrays
