"""The network against Keras, against the tutorial's table of shapes, and on another device.

Shapes: B reviews, T tokens, V words, E embedding, H hidden units.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from networks import ThreeCells
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from lit_imdb.data.text import TextEncoder
from lit_imdb.errors import UserError
from lit_imdb.inference.classifier import SentimentClassifier
from lit_imdb.model.attribution import influences
from lit_imdb.model.folded import fold
from lit_imdb.model.network import SentimentRNN
from lit_imdb.model.recurrence import ENGINES, hidden_states, padding_of

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
    for evaluated in (net.eval(), fold(net)):
        torch.testing.assert_close(evaluated(keras["ids"]), keras["logits"], atol=1e-5, rtol=0)


def logits_and_gradients(
    keras: dict[str, Tensor], engine: str, every: bool, device: str = "cpu"
) -> dict[str, Tensor]:
    net = network_of(keras, engine).to(device)
    masks = keras["mask0"].to(device), keras["mask1"].to(device)
    logits = net(keras["ids"].to(device), masks, every)
    logits.square().sum().backward()
    gradients = {n: p.grad.cpu() for n, p in net.named_parameters() if p.grad is not None}
    moved = influences(net.eval(), keras["ids"].to(device)).cpu()  # (B, T)
    return {"logits": logits.detach().cpu(), "influences": moved, **gradients}


@pytest.mark.parametrize("every", [False, True], ids=["last", "every"])
@pytest.mark.parametrize("engine", [name for name in ENGINES if name != "reference"])
def test_every_engine_has_the_logits_and_gradients_of_the_plain_loop(
    engine: str, every: bool, keras: dict[str, Tensor]
) -> None:
    expected = logits_and_gradients(keras, "reference", every)
    found = logits_and_gradients(keras, engine, every)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert found["logits"].shape == (keras["ids"].shape if every else keras["ids"].shape[:1])


def test_a_third_cell_counts_everywhere() -> None:
    torch.manual_seed(0)
    net = ThreeCells(20, 6, 5, dropout=0.5)
    ids = torch.randint(20, (4, 7))
    masks = net.draw_masks(4)
    below = net.embedding(ids)
    for cell, mask in zip((net.cell0, net.cell1, net.cell2), masks, strict=True):
        outputs, before = [], torch.zeros(4, 5)
        for word in below.unbind(1):
            before = cell(word if mask is None else word * mask, before)
            outputs.append(before)
        below = torch.stack(outputs, 1)
    expected = net.head(before).squeeze(1)
    for net.engine in ENGINES:
        torch.testing.assert_close(net.train()(ids, masks), expected)
        torch.testing.assert_close(fold(net.eval())(ids), net(ids))


@pytest.mark.parametrize("cell", [nn.GRUCell(5, 5), nn.RNNCell(5, 5, nonlinearity="relu")], ids=str)
def test_other_cells_go_through_the_plain_loop(cell: nn.Module) -> None:
    net = SentimentRNN(3, 6, 5, engine="reference").eval()
    net.add_module("cell1", cell)
    ids = torch.tensor([[1, 2], [2, 2]])
    embedded = net.embedding(ids[1:]).detach().requires_grad_()
    logits = net.logits_of(embedded, padding_of(ids[1:]))
    (slope,) = torch.autograd.grad(logits.sum(), embedded)
    expected = net(ids)
    net.engine = "auto"
    torch.testing.assert_close(net(ids), expected)
    torch.testing.assert_close(fold(net)(ids), expected)
    classifier = SentimentClassifier(net, TextEncoder(["<pad>", "<unk>", "film"], max_length=2))
    influence = torch.tensor([value for _, value in classifier.explain("film film")])
    torch.testing.assert_close(influence, (slope * embedded).sum(2)[0].detach())
    for net.engine in ("fused", "cudnn"):
        for use in (lambda: net(ids), lambda: fold(net)):
            with pytest.raises(UserError, match=r"use --model\.engine reference"):
                use()


def test_shapes_are_those_of_section_6_of_the_tutorial() -> None:
    net = SentimentRNN(engine="reference").eval()
    seen: dict[str, list[list[torch.Size]]] = {}

    def watch(name: str, module: nn.Module) -> None:
        def note(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            shapes = [x.shape for x in inputs if x is not None]  # a first state of None is zeros
            seen.setdefault(name, []).append([*shapes, output.shape])

        module.register_forward_hook(note)

    for name, module in net.named_children():
        watch(name, module)
    embedded: list[Tensor] = []
    net.embedding.register_forward_hook(lambda *call: embedded.append(call[2].transpose(0, 1)))
    with torch.no_grad():
        logits = net(torch.randint(10_000, (128, 80)))

    # [b, seq_len, feature_len] = [128, 80, 100], unrolled into 80 x [128, 100]
    assert embedded[0].shape == (128, 80, 100)
    # h = [128, 100] @ [100, 64] + [128, 64] @ [64, 64] = [128, 64], at each of the 80 words
    assert seen["cell0"][1:] == [[(128, 100), (128, 64), (128, 64)]] * 79
    assert seen["cell1"][1:] == [[(128, 64), (128, 64), (128, 64)]] * 79
    # torch keeps weights as (out, in): the tutorial's [100, 64] transposed
    assert net.cell0.weight_ih.t().shape == (100, 64)
    assert net.cell1.weight_ih.t().shape == (64, 64)
    assert net.cell0.weight_hh.shape == net.cell1.weight_hh.shape == (64, 64)
    assert seen["head"] == [[(128, 64), (128, 1)]]
    assert logits.shape == (128,)


def test_hidden_states_stay_zero_until_the_first_word() -> None:
    net = SentimentRNN(20, 4, 3)
    for cell in net.cells:
        nn.init.ones_(cell.bias_ih)
    ids = torch.tensor([[0, 0, 5, 0, 6], [7, 8, 9, 1, 2], [0, 0, 0, 0, 0]])
    states = hidden_states(net.cells, net.embedding(ids), [None] * 2, padding_of(ids))
    for layer in states:
        moved = [[bool(h.any()) for h in state] for state in layer]
        assert moved == [[False, True, False]] * 2 + [[True, True, False]] * 3
    first = torch.tanh(net.embedding.weight[7] @ net.cell0.weight_ih.t() + 1)
    torch.testing.assert_close(states[0][0][1], first)


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
        torch.testing.assert_close(net(padded), alone, atol=1e-6, rtol=0)
        torch.testing.assert_close(fold(net)(padded), alone, atol=1e-6, rtol=0)
    empty = torch.zeros(2, 9).long()
    assert net(empty).tolist() == fold(net)(empty).tolist() == [pytest.approx(0.7)] * 2


def test_dropout_draws_one_mask_for_all_words_of_a_review() -> None:
    net = SentimentRNN(20, 100, 64, dropout=0.2).train()
    mask0, mask1 = net.draw_masks(256)
    assert mask0 is not None
    assert mask1 is not None
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
        torch.testing.assert_close(
            cell.weight_hh @ cell.weight_hh.t(), torch.eye(64), atol=1e-5, rtol=0
        )
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
    assert fold(net.eval())(ids).device.type == "meta"


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.gpu
@needs_gpu
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("every", [False, True], ids=["last", "every"])
@pytest.mark.parametrize("engine", ["reference", "cudnn"])
def test_a_gpu_gives_the_logits_and_gradients_of_the_plain_loop_without_a_warning(
    engine: str, every: bool, keras: dict[str, Tensor]
) -> None:
    expected = logits_and_gradients(keras, "reference", every)
    found = logits_and_gradients(keras, engine, every, "cuda")
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_tf32_is_used_only_where_torch_was_told_so(keras: dict[str, Tensor]) -> None:
    before = torch.get_float32_matmul_precision()
    try:
        for precision, allowed in (("high", True), ("highest", False)):
            torch.set_float32_matmul_precision(precision)
            network_of(keras, "cudnn")(keras["ids"])
            assert torch.backends.cudnn.allow_tf32 is allowed
    finally:
        torch.set_float32_matmul_precision(before)
