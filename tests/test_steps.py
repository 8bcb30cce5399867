"""The Trainer takes the steps of a plain loop and logs exact metrics."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Trainer
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader, TensorDataset

from lit_imdb.errors import UserError
from lit_imdb.model.module import LitSentiment

SMALL: dict[str, Any] = {"vocab_size": 20, "embedding_dim": 3, "hidden_dim": 4}

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*treespec:FutureWarning"),  # Lightning's
    pytest.mark.filterwarnings("ignore:.*no `val_dataloader`", "ignore:.*num_workers"),
]


def quiet_trainer(**settings: Any) -> Trainer:
    parts = ("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing")
    return Trainer(accelerator="cpu", **dict.fromkeys(parts, False), **settings)


def batches(reviews: int) -> DataLoader[Any]:
    """Batches of 4 whose labels are integers; the program's own are floating-point numbers."""
    torch.manual_seed(1)
    ids, labels = torch.randint(20, (reviews, 5)), torch.randint(2, (reviews,))
    return DataLoader(TensorDataset(ids, labels), 4)


def test_trainer_fit_takes_the_steps_of_a_plain_loop_and_logs_means_since_the_line_before() -> None:
    lit = LitSentiment(**SMALL, dropout=0, lr=0.1)
    by_hand = deepcopy(lit)
    logged: list[float] = []
    lit.log_dict = lambda metrics, **_: logged.append(metrics["train/loss"])  # type: ignore
    quiet_trainer(max_epochs=2, log_every_n_steps=2).fit(lit, batches(11))
    losses = []
    by_hand.trainer = lit.trainer
    optimizer = by_hand.configure_optimizers()
    for ids, labels in [*batches(11)] * 2:
        optimizer.zero_grad()
        loss = binary_cross_entropy_with_logits(by_hand(ids), labels.float())
        loss.backward()
        optimizer.step()
        losses.append((loss.item() * len(ids), len(ids)))
    torch.testing.assert_close(lit.net.state_dict(), by_hand.net.state_dict(), atol=0, rtol=0)
    pairs = [zip(*losses[step : step + 2], strict=True) for step in (0, 2, 4)]
    assert logged == [sum(total) / sum(reviews) for total, reviews in pairs]  # not of batches


def test_a_compiled_module_takes_the_same_steps_and_has_the_same_metrics() -> None:
    lit = LitSentiment(**SMALL, lr=0.1)
    compiled = deepcopy(lit)
    metrics = []
    for module in (lit, torch.compile(compiled, backend="eager")):
        trainer = quiet_trainer(max_epochs=1, log_every_n_steps=2)
        trainer.fit(module, batches(12), batches(11))
        metrics.append(trainer.callback_metrics)
    torch.testing.assert_close(lit.net.state_dict(), compiled.net.state_dict())
    torch.testing.assert_close(*metrics)


def test_a_checkpoint_has_the_sums_since_the_log_line_in_all_their_digits() -> None:
    lit, restored = LitSentiment(**SMALL), LitSentiment(**SMALL)
    saved: dict[str, Any] = {}
    lit.since_log_line = [torch.tensor(1 / 3, dtype=torch.float64), torch.tensor(2), 4]
    lit.to(torch.bfloat16).on_save_checkpoint(saved)
    restored.on_load_checkpoint(saved)
    assert restored.since_log_line == [1 / 3, 2, 4]


def test_metrics_of_an_evaluation_are_means_over_its_reviews_not_its_batches() -> None:
    lit, trainer = LitSentiment(**SMALL).eval(), quiet_trainer()
    nn.init.normal_(lit.net.head.weight)
    for reviews in (11, 6):  # nothing is left over from the evaluation before
        data = batches(reviews)
        ids, labels = data.dataset.tensors  # type: ignore[attr-defined]
        logits = lit(ids).detach()
        loss = float(binary_cross_entropy_with_logits(logits, labels.float()))
        accuracy = float(((logits > 0) == (labels > 0)).float().mean())
        for split, evaluate in (("val", trainer.validate), ("test", trainer.test)):
            (found,) = evaluate(lit, data, verbose=False)
            expected = {f"{split}/loss": loss, f"{split}/acc": accuracy}
            assert found == pytest.approx(expected, rel=1e-6)


def test_hyperparameters_are_all_settings_those_of_the_network_too() -> None:
    settings = dict(LitSentiment(**SMALL, lr=0.1).hparams)
    assert settings == {**settings, "lr": 0.1, "dropout": 0.2, "engine": "auto", **SMALL}


def test_weights_that_are_no_numbers_do_not_replace_a_checkpoint(tmp_path: Path) -> None:
    lit, trainer, path = LitSentiment(**SMALL), quiet_trainer(max_epochs=1), tmp_path / "x.ckpt"
    trainer.fit(lit, batches(4))
    trainer.save_checkpoint(path)
    before = path.read_bytes()
    torch.nn.init.constant_(lit.net.head.bias, torch.nan)
    with pytest.raises(UserError, match="NaN or infinite"):
        trainer.save_checkpoint(path)
    assert path.read_bytes() == before
