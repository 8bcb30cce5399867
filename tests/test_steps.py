"""The Trainer takes the steps of a plain loop and logs exact metrics."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.loggers import CSVLogger
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader, TensorDataset

from lit_imdb.model.metrics import RunningMetrics
from lit_imdb.model.module import LitSentiment

QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
}
SMALL: dict[str, Any] = {"vocab_size": 20, "embedding_dim": 3, "hidden_dim": 4}

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*treespec:FutureWarning"),  # Lightning's
    pytest.mark.filterwarnings("ignore:.*no `val_dataloader`", "ignore:.*num_workers"),
]


def batches(reviews: int) -> DataLoader[Any]:
    torch.manual_seed(1)
    ids, labels = torch.randint(20, (reviews, 5)), torch.randint(2, (reviews,)).float()
    return DataLoader(TensorDataset(ids, labels), 4)


def test_trainer_fit_takes_the_steps_of_a_plain_loop() -> None:
    by_trainer = LitSentiment(**SMALL, dropout=0, lr=0.1)
    by_hand = deepcopy(by_trainer)
    Trainer(max_epochs=2, logger=False, **QUIET).fit(by_trainer, batches(12))
    optimizer = by_hand.configure_optimizers()
    for _ in range(2):
        for ids, labels in batches(12):
            optimizer.zero_grad()
            loss = binary_cross_entropy_with_logits(by_hand(ids), labels)
            loss.backward()
            optimizer.step()
    weights = by_trainer.net.state_dict(), by_hand.net.state_dict()
    torch.testing.assert_close(*weights, atol=0, rtol=0)


def test_training_metrics_are_means_since_the_log_line_before(tmp_path: Any) -> None:
    lit = LitSentiment(**SMALL, dropout=0, lr=0.1)
    by_hand = deepcopy(lit)
    trainer = Trainer(max_epochs=2, log_every_n_steps=2, logger=CSVLogger(tmp_path), **QUIET)
    logged: list[float] = []
    lit.log_dict = lambda metrics, **_: logged.append(metrics["train/loss"])  # type: ignore
    trainer.fit(lit, batches(12))
    losses = []
    optimizer = by_hand.configure_optimizers()
    for _ in range(2):
        for ids, labels in batches(12):
            loss = binary_cross_entropy_with_logits(by_hand(ids), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert logged == [sum(losses[step : step + 2]) / 2 for step in (0, 2, 4)]


def test_running_metrics_are_part_of_the_modules_state() -> None:
    whole, first, resumed = RunningMetrics(), RunningMetrics(), RunningMetrics()
    steps = [(torch.rand(()), torch.randn(4), torch.randint(2, (4,)).float()) for _ in range(6)]
    for step in steps:
        whole.update(*step)
    for step in steps[:3]:
        first.update(*step)
    saved = deepcopy(first.state_dict())
    first.update(*steps[3])  # a checkpoint in memory stays as it was
    resumed.load_state_dict(saved)
    for step in steps[3:]:
        resumed.update(*step)
    assert resumed.compute() == whole.compute()
    assert whole.half().state_dict()["_extra_state"].dtype is torch.float64


@pytest.mark.parametrize("split", ["val", "test"])
def test_metrics_of_an_evaluation_are_means_over_its_reviews_not_its_batches(split: str) -> None:
    lit = LitSentiment(**SMALL).eval()
    data = batches(11)
    ids, labels = data.dataset.tensors  # type: ignore[attr-defined]
    with torch.no_grad():
        lit.net.head.weight.mul_(9)
        logits = lit(ids)
    expected = {
        f"{split}/loss": float(binary_cross_entropy_with_logits(logits, labels)),
        f"{split}/acc": float(((logits > 0) == (labels > 0)).float().mean()),
    }
    trainer = Trainer(logger=False, **QUIET)
    evaluate = trainer.validate if split == "val" else trainer.test
    for _ in range(2):  # nothing is left over from the evaluation before
        (found,) = evaluate(lit, data, verbose=False)
        assert found == pytest.approx(expected, rel=1e-6)


def test_a_step_outside_of_fit_has_its_single_torch_thread_too() -> None:
    lit = LitSentiment(**SMALL, engine="fused")
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


def test_hyperparameters_are_all_settings_those_of_the_network_too() -> None:
    settings = dict(LitSentiment(**SMALL, lr=0.1).hparams)
    assert settings == {**settings, "lr": 0.1, "dropout": 0.2, "engine": "auto", **SMALL}
