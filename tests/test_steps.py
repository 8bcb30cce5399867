"""What spares a training step time changes nothing that is seen."""

from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning import Trainer
from torch.nn.functional import binary_cross_entropy_with_logits

from lit_imdb.model import module
from lit_imdb.model.module import LitSentiment


@pytest.mark.parametrize("most", [1, 3, 100])
def test_training_figures_do_not_depend_on_when_they_are_summed(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST_UNSUMMED", most)
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
        lit._unsummed.append((loss, logits, labels))
        lit._log_training(step)
        assert len(lit._unsummed) < most
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


def test_a_step_outside_of_fit_has_its_own_threads_too() -> None:
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
    lit._unsummed.append((torch.tensor(2.0), torch.ones(3), torch.ones(3)))
    lit._sum_up()
    assert kept["training"]["window"] == [0, 0, 0]
    assert lit._window == [6, 3, 3]
