"""The network against Keras, against the tutorial's table of shapes, and on another device.

Shapes: B reviews, T tokens, V words, E embedding, H hidden units.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from lit_imdb.errors import UserError
from lit_imdb.model.engines import ENGINES
from lit_imdb.model.network import SentimentRNN, evaluator_of
from lit_imdb.model.recurrence import padding_of

FIXTURE = Path(__file__).parent / "fixtures" / "keras_simple_rnn.npz"


@pytest.fixture
def keras() -> dict[str, Tensor]:
    with np.load(FIXTURE) as content:
        return {name: torch.from_numpy(content[name]) for name in content}


def network_of(keras: dict[str, Tensor], engine: str) -> SentimentRNN:
    """Our network with the weights of Keras's."""
    vocab, embedding = keras["embedding"].shape
    net = SentimentRNN(vocab, embedding, len(keras["cell0_bias"]), engine=engine)
    with torch.no_grad():
        net.embedding.weight.copy_(keras["embedding"])
        for layer, cell in enumerate(net.cells):
            cell.weight_ih.copy_(keras[f"cell{layer}_kernel"].t())
            cell.weight_hh.copy_(keras[f"cell{layer}_recurrent_kernel"].t())
            cell.bias_ih.copy_(keras[f"cell{layer}_bias"])
        net.head.weight.copy_(keras["head_kernel"].t())
        net.head.bias.copy_(keras["head_bias"])
    return net


@pytest.mark.parametrize("engine", ENGINES)
def test_logits_equal_those_of_keras_cells(engine: str, keras: dict[str, Tensor]) -> None:
    net = network_of(keras, engine)
    logits = net(keras["ids"], (keras["mask0"], keras["mask1"]))
    torch.testing.assert_close(logits, keras["logits_with_masks"], atol=1e-5, rtol=0)
    assert (logits - keras["logits"]).abs().max() > 1e-2  # the masks do something
    for evaluated in (net.eval(), evaluator_of(net)):
        torch.testing.assert_close(evaluated(keras["ids"]), keras["logits"], atol=1e-5, rtol=0)


def logits_and_gradients(
    keras: dict[str, Tensor], engine: str, at_every_word: bool, device: str = "cpu"
) -> dict[str, Tensor]:
    net = network_of(keras, engine).to(device)
    masks = keras["mask0"].to(device), keras["mask1"].to(device)
    logits = net(keras["ids"].to(device), masks, at_every_word)
    logits.square().sum().backward()
    gradients = {n: p.grad.cpu() for n, p in net.named_parameters() if p.grad is not None}
    moved = net.eval().influences(keras["ids"].to(device)).cpu()  # (B, T)
    return {"logits": logits.detach().cpu(), "influences": moved, **gradients}


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
ON_GPU = [
    pytest.param(engine, "cuda", marks=[pytest.mark.gpu, needs_gpu])
    for engine in ("reference", "cudnn")
]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("at_every_word", [False, True], ids=["last", "every"])
@pytest.mark.parametrize(("engine", "device"), [("fused", "cpu"), ("cudnn", "cpu"), *ON_GPU])
def test_every_engine_has_the_logits_and_gradients_of_the_plain_loop_without_a_warning(
    engine: str, device: str, at_every_word: bool, keras: dict[str, Tensor]
) -> None:
    expected = logits_and_gradients(keras, "reference", at_every_word)
    found = logits_and_gradients(keras, engine, at_every_word, device)
    close = 1e-5 if device == "cpu" else 1e-4
    torch.testing.assert_close(found, expected, atol=close, rtol=close)
    assert found["logits"].shape == (
        keras["ids"].shape if at_every_word else keras["ids"].shape[:1]
    )
    assert not found["influences"][keras["ids"] == 0].any()


@pytest.mark.parametrize("cell", [nn.GRUCell(5, 5), nn.RNNCell(5, 5, nonlinearity="relu")], ids=str)
def test_other_cells_go_through_the_plain_loop(cell: nn.Module) -> None:
    net = SentimentRNN(3, 6, 5, engine="reference").eval()
    net.add_module("cell1", cell)
    ids = torch.tensor([[1, 2], [2, 2]])
    expected, influences = net(ids), net.influences(ids)
    net.engine = "auto"
    torch.testing.assert_close(net(ids), expected)
    torch.testing.assert_close(evaluator_of(net)(ids), expected)
    torch.testing.assert_close(net.influences(ids), influences)
    for net.engine in ("fused", "cudnn"):
        for use in (lambda: net(ids), lambda: evaluator_of(net)):
            with pytest.raises(UserError, match=r"use --model\.engine auto"):
                use()


def test_shapes_are_those_of_section_6_of_the_tutorial() -> None:
    net = SentimentRNN(engine="reference").eval()
    seen: dict[nn.Module, list[list[torch.Size]]] = {module: [] for module in net.children()}

    def note(module: nn.Module, inputs: tuple[Tensor | None, ...], output: Tensor) -> None:
        shapes = [x.shape for x in inputs if x is not None]  # a first state of None is zeros
        seen[module].append([*shapes, output.shape])

    for module in seen:
        module.register_forward_hook(note)
    with torch.no_grad():
        logits = net(torch.randint(10_000, (128, 80)))
    # [b, seq_len, feature_len] = [128, 80, 100], here with the words first
    assert seen[net.embedding] == [[(80, 128), (80, 128, 100)]]
    # h = [128, 100] @ [100, 64] + [128, 64] @ [64, 64] = [128, 64], at each of the 80 words
    assert seen[net.cell0][1:] == [[(128, 100), (128, 64), (128, 64)]] * 79
    assert seen[net.cell1][1:] == [[(128, 64), (128, 64), (128, 64)]] * 79
    assert net.cell0.weight_ih.shape == (64, 100)  # torch keeps weights as (out, in)
    assert seen[net.head] == [[(128, 64), (128, 1)]]
    assert logits.shape == (128,)


def test_padding_is_what_stands_in_front_of_the_first_word() -> None:
    ids = torch.tensor([[0, 0, 5, 0, 6], [7, 8, 9, 1, 2], [0, 0, 0, 0, 0]])
    assert padding_of(ids).tolist() == [2, 0, 5]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_short_review_has_the_logit_that_it_has_without_padding(engine: str) -> None:
    torch.manual_seed(0)
    net = SentimentRNN(20, 6, 5, engine=engine).eval()
    nn.init.normal_(net.embedding.weight)
    nn.init.normal_(net.cell0.bias_ih)
    nn.init.constant_(net.head.bias, 0.7)
    words = torch.randint(1, 20, (40, 9))
    for count in range(1, 10):
        padded = words.clone()
        padded[:, : 9 - count] = 0
        alone = net(words[:, 9 - count :])
        for logits in (net(padded), evaluator_of(net)(padded)):
            torch.testing.assert_close(logits, alone, atol=1e-6, rtol=0)
    empty = torch.zeros(2, 9).long()
    assert net(empty).tolist() == evaluator_of(net)(empty).tolist() == [pytest.approx(0.7)] * 2


def test_dropout_draws_one_mask_for_all_words_of_a_review() -> None:
    net = SentimentRNN(20, 100, 64, dropout=0.2).train()
    mask0, mask1 = net.draw_masks(256)
    assert (mask0.shape, mask1.shape) == ((256, 100), (256, 64))
    assert mask0.unique().tolist() == [0, 1.25]
    assert (mask0 == 0).float().mean().item() == pytest.approx(0.2, abs=0.01)
    assert not torch.equal(mask0[0], mask0[1])
    ids = torch.randint(20, (4, 6))
    assert not torch.equal(net(ids), net(ids))
    assert torch.equal(net.eval()(ids), net(ids))


def test_initial_values_are_those_of_keras() -> None:
    torch.manual_seed(1)
    net = SentimentRNN()
    assert net.embedding.weight.abs().max() <= 0.05
    assert net.embedding.weight.std().item() == pytest.approx(0.1 / 12**0.5, rel=0.01)
    limit = (6 / (100 + 64)) ** 0.5
    assert net.cell0.weight_ih.abs().max() <= limit
    assert net.cell0.weight_ih.std().item() == pytest.approx(limit / 3**0.5, rel=0.05)
    for cell in net.cells:
        product = cell.weight_hh @ cell.weight_hh.t()
        torch.testing.assert_close(product, torch.eye(64), atol=1e-5, rtol=0)
        assert not cell.bias_ih.any()
        assert not cell.bias_hh.any()
    assert sum(p.numel() for p in net.parameters() if p.requires_grad) == 1_018_881


@pytest.mark.parametrize("engine", ["reference", "cudnn", "auto"])
def test_no_engine_makes_a_tensor_on_another_device(engine: str) -> None:
    with torch.device("meta"):  # it refuses to mix with CPU tensors, and needs no GPU
        net = SentimentRNN(20, 6, 5, engine=engine).train()
    ids = torch.zeros(3, 4, dtype=torch.int32, device="meta")  # (B, T)
    logits = net(ids)  # (B,)
    loss = binary_cross_entropy_with_logits(logits, torch.zeros(3, device="meta"))
    loss.backward()
    assert logits.shape == (3,)
    for name, weight in net.named_parameters():
        assert not weight.requires_grad or weight.grad is not None, name
        assert weight.device.type == "meta"
    assert evaluator_of(net.eval())(ids).device.type == "meta"


def test_tf32_is_used_only_where_torch_was_told_so(keras: dict[str, Tensor]) -> None:
    before = torch.get_float32_matmul_precision()
    try:
        for precision, allowed in (("high", True), ("highest", False)):
            torch.set_float32_matmul_precision(precision)
            network_of(keras, "cudnn")(keras["ids"])
            assert torch.backends.cudnn.allow_tf32 is allowed
    finally:
        torch.set_float32_matmul_precision(before)
