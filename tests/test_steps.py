"""What spares a training step time changes nothing that is seen."""

from copy import deepcopy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pytorch_lightning import Trainer
from torch.autograd import profiler
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.optim import optimizer as optimizers

from lit_imdb.model import window
from lit_imdb.model.module import LitSentiment


@pytest.mark.parametrize("most", [1, 3, 100])
def test_training_figures_do_not_depend_on_when_they_are_summed(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window, "_MOST_WAITING", most)
    logged: dict[str, float] = {}
    lit = LitSentiment(vocab_size=10, embedding_dim=2, hidden_dim=2)
    lit.trainer = SimpleNamespace(  # type: ignore[assignment]
        log_every_n_steps=10, accumulate_grad_batches=1, global_step=0, current_epoch=0
    )
    lit.log = lambda name, value, **_: logged.update({name: float(value)})  # type: ignore[assignment]
    torch.manual_seed(1)
    losses, right = [], 0
    for step in range(10):
        lit.trainer.global_step = step  # type: ignore[misc]
        loss, logits, labels = torch.rand(()), torch.randn(4), torch.randint(2, (4,)).float()
        losses.append(loss.item())
        right += int(((logits > 0) == (labels > 0)).sum())
        lit._window.add(loss, logits, labels)
        lit._log_training(step)
        assert len(lit._window._waiting) < most
    assert logged == {
        "train/loss": pytest.approx(sum(losses) / 10),
        "train/acc": pytest.approx(right / 40),
    }


@pytest.mark.filterwarnings("ignore:.*treespec:FutureWarning", "ignore:.*no `val_dataloader`")
def test_trainer_fit_takes_the_steps_of_a_plain_loop() -> None:
    ids, labels = torch.randint(20, (12, 5)), torch.randint(2, (12,)).float()
    batches = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(ids, labels), 4)
    by_trainer = LitSentiment(vocab_size=20, embedding_dim=3, hidden_dim=4, dropout=0, lr=0.1)
    by_hand = deepcopy(by_trainer)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    trainer = Trainer(max_epochs=2, accelerator="cpu", enable_checkpointing=False, **quiet)
    trainer.fit(by_trainer, batches)
    optimizer = by_hand.configure_optimizers()
    for _ in range(2):
        for some_ids, some_labels in batches:
            optimizer.zero_grad()
            loss = binary_cross_entropy_with_logits(by_hand(some_ids), some_labels)
            loss.backward()
            optimizer.step()
    torch.testing.assert_close(by_trainer.state_dict(), by_hand.state_dict(), atol=0, rtol=0)


@pytest.mark.filterwarnings("ignore:.*treespec:FutureWarning", "ignore:.*num_workers")
@pytest.mark.parametrize("part", ["val", "test"])
def test_figures_of_an_evaluation_are_means_over_its_reviews_not_its_batches(part: str) -> None:
    ids, labels = torch.randint(20, (11, 5)), torch.randint(2, (11,)).float()
    lit = LitSentiment(vocab_size=20, embedding_dim=3, hidden_dim=4).eval()
    with torch.no_grad():
        lit.net.head.weight.mul_(9)
        logits = lit(ids)
    expected = {
        f"{part}/loss": float(binary_cross_entropy_with_logits(logits, labels)),
        f"{part}/acc": float(((logits > 0) == (labels > 0)).float().mean()),
    }
    batches = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(ids, labels), 4)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    trainer = Trainer(accelerator="cpu", **quiet)
    evaluate = trainer.validate if part == "val" else trainer.test
    for _ in range(2):  # nothing is left over from the evaluation before
        (found,) = evaluate(lit, batches, verbose=False)
        assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("engine", "loaded"), [("reference", []), ("fused", [1])])
def test_what_an_engine_loads_before_the_first_epoch_leaves_no_trace(
    engine: Any, loaded: list[int]
) -> None:
    lit = LitSentiment(vocab_size=20, embedding_dim=3, hidden_dim=4, engine=engine)
    lit.net.register_parameter("unused", torch.nn.Parameter(torch.ones(1)))
    looked_up: list[int] = []
    lit.net.register_forward_hook(lambda *_: looked_up.append(1))
    before, random = deepcopy(lit.state_dict()), torch.get_rng_state()
    lit.on_train_start()
    assert looked_up == loaded
    assert torch.equal(torch.get_rng_state(), random)
    assert all(parameter.grad is None for parameter in lit.parameters())
    torch.testing.assert_close(lit.state_dict(), before, atol=0, rtol=0)


def test_a_step_outside_of_fit_has_its_single_torch_thread_too() -> None:
    lit = LitSentiment(vocab_size=10, embedding_dim=2, hidden_dim=2, engine="fused")
    seen: list[int] = []
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        closure = lambda: seen.append(torch.get_num_threads())  # noqa: E731
        lit.optimizer_step(0, 0, torch.optim.SGD(lit.parameters(), 0.1), closure)
        seen.append(torch.get_num_threads())
    finally:
        torch.set_num_threads(before)
    assert seen == [1, 2]


def test_a_checkpoint_in_memory_stays_as_it_was() -> None:
    lit = LitSentiment(vocab_size=10, embedding_dim=2, hidden_dim=2)
    kept: dict[str, dict[str, list[float]]] = {}
    lit.on_save_checkpoint(kept)
    lit._window.add(torch.tensor(2.0), torch.ones(3), torch.ones(3))
    assert lit._window.sums == [6, 3, 3]
    assert kept["training"]["window"] == [0, 0, 0]


def taken(optimizer: torch.optim.Optimizer) -> list[str]:
    """What torch's profiler is asked to note of a step of `LitSentiment`."""
    lit = LitSentiment(vocab_size=10, embedding_dim=2, hidden_dim=2)
    noted: list[str] = []

    class Noted(profiler.record_function):
        def __init__(self, name: str, args: str | None = None) -> None:
            noted.append(name)
            super().__init__(name, args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(profiler, "record_function", Noted)
        lit.optimizer_zero_grad(0, 0, optimizer)
        lit.optimizer_step(0, 0, optimizer, lambda: noted.append("closure"))
    return noted


@pytest.fixture
def parameter() -> torch.nn.Parameter:
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.grad = torch.ones(2)
    return parameter


LABEL = "Optimizer.step#SGD.step"


def test_a_step_does_not_ask_torchs_profiler(parameter: torch.nn.Parameter) -> None:
    optimizer = torch.optim.SGD([parameter], lr=0.25)
    assert taken(optimizer) == ["closure"]
    assert parameter.grad is None
    parameter.grad = torch.ones(2)
    LitSentiment(9, 2, 2).optimizer_step(0, 0, optimizer, None)
    assert parameter.tolist() == [0.75, 0.75]


def test_a_profiler_sees_the_step(parameter: torch.nn.Parameter) -> None:
    with profiler.profile():
        assert taken(torch.optim.SGD([parameter])) == [LABEL, "closure"]


def test_a_step_calls_what_is_hooked_into_the_optimizer(parameter: torch.nn.Parameter) -> None:
    hooked: list[str] = []
    for hook in ("pre", "post"):
        optimizer = torch.optim.SGD([parameter])
        register = getattr(optimizer, f"register_step_{hook}_hook")
        register(lambda *_, hook=hook: hooked.append(hook))
        assert taken(optimizer) == [LABEL, "closure"]
        handle = getattr(optimizers, f"register_optimizer_step_{hook}_hook")(
            lambda *_, hook=hook: hooked.append(f"global {hook}")
        )
        try:
            assert taken(torch.optim.SGD([parameter])) == [LABEL, "closure"]
        finally:
            handle.remove()
    assert hooked == ["pre", "global pre", "post", "global post"]


def test_a_step_goes_through_what_a_schedule_put_in_its_place(
    parameter: torch.nn.Parameter,
) -> None:
    optimizer = torch.optim.SGD([parameter])
    torch.optim.lr_scheduler.ConstantLR(optimizer)
    assert taken(optimizer) == [LABEL, "closure"]


def test_an_optimizer_of_ones_own_takes_its_step(
    parameter: torch.nn.Parameter,
) -> None:
    class Own(torch.optim.Optimizer):
        def __init__(self) -> None:
            super().__init__([parameter], {})

        def step(self, closure: Any = None) -> None:
            closure()

    optimizer = Own()
    assert taken(optimizer) == ["closure"]
    Own.step.hooked = False  # type: ignore[attr-defined]
    assert taken(optimizer) == ["Optimizer.step#Own.step", "closure"]
