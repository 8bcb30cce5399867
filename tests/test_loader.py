"""Batches and their order."""

from itertools import product
from pathlib import Path

import pytest
import torch
from prepared import data_of

from lit_imdb.data.loader import BatchLoader, Split


@pytest.fixture
def train(corpus: Path) -> Split:
    return data_of(corpus).splits["train"]  # 144 reviews


def ids_of(loader: BatchLoader) -> list[torch.Tensor]:
    return [ids for ids, _ in loader]


@pytest.mark.parametrize("world", [1, 2])
def test_a_split_smaller_than_a_batch_is_one_training_batch(world: int, train: Split) -> None:
    for rank in range(world):
        loader = BatchLoader(train, 500, 5, rank, world)
        assert [len(ids) for ids in ids_of(loader)] == [144 // world]
        assert len(loader) == 1


def test_validation_and_test_drop_no_review_and_keep_the_order(corpus: Path) -> None:
    data = data_of(corpus, batch_size=15)
    for name, loader in (("val", data.val_dataloader()), ("test", data.test_dataloader())):
        ids, labels = zip(*loader, strict=True)
        assert len(ids) == len(loader)
        assert torch.equal(torch.cat(ids), data.splits[name].ids)
        assert torch.equal(torch.cat(labels), data.splits[name].labels.float())


def test_order_is_a_function_of_seed_and_epoch_alone(train: Split) -> None:
    orders = []
    for global_seed, seed, epoch in product((1, 2), repeat=3):
        torch.manual_seed(global_seed)
        state = torch.get_rng_state()
        loader = BatchLoader(train, 16, seed)
        loader.set_epoch(epoch)
        orders.append(loader.order().tolist())
        assert sorted(orders[-1]) == list(range(144))
        assert torch.equal(torch.get_rng_state(), state)
    assert orders[:4] == orders[4:]
    assert len(set(map(tuple, orders))) == 4


def test_several_processes_share_the_batches_without_overlap(train: Split) -> None:
    alone = ids_of(BatchLoader(train, 16, seed=5))
    shared = [ids_of(BatchLoader(train, 16, 5, rank, 2)) for rank in range(2)]
    assert [len(batches) for batches in shared] == [4, 4]
    # together their k-th batches are the two that one process would have met then
    for step, pair in enumerate(zip(*shared, strict=True)):
        together = torch.stack(pair, dim=1).flatten(0, 1)
        torch.testing.assert_close(together, torch.cat(alone[2 * step : 2 * step + 2]))
