"""Batches and their order."""

from itertools import product
from pathlib import Path

import pytest
import torch
from prepared import data_of

from lit_imdb.data.datamodule import ImdbDataModule
from lit_imdb.data.loader import BatchLoader, Split


@pytest.fixture
def data(corpus: Path) -> ImdbDataModule:
    return data_of(corpus, batch_size=15)


@pytest.fixture
def train(data: ImdbDataModule) -> Split:
    return data.splits["train"]  # 144 reviews


def ids_of(loader: BatchLoader) -> list[torch.Tensor]:
    return [ids for ids, _ in loader]


@pytest.mark.parametrize("world", [1, 2])
def test_a_split_smaller_than_a_batch_is_one_training_batch(world: int, train: Split) -> None:
    for rank in range(world):
        loader = BatchLoader(train, 500, 5, rank, world)
        assert [len(ids) for ids in ids_of(loader)] == [144 // world]
        assert len(loader) == 1


def test_validation_and_test_drop_no_review_and_keep_the_order(data: ImdbDataModule) -> None:
    for name, loader in (("val", data.val_dataloader()), ("test", data.test_dataloader())):
        batches = list(loader)
        assert len(batches) == len(loader)
        assert torch.equal(torch.cat([ids for ids, _ in batches]), data.splits[name].ids)
        assert torch.equal(torch.cat([y for _, y in batches]), data.splits[name].labels.float())


def test_order_is_a_function_of_seed_and_epoch_alone(train: Split) -> None:
    orders = []
    for other_seed in (1, 2):
        torch.manual_seed(other_seed)
        state = torch.get_rng_state()
        for seed, epoch in product((1, 2), repeat=2):
            loader = BatchLoader(train, 16, seed)
            loader.set_epoch(epoch)
            orders.append(tuple(loader.order().tolist()))
            assert sorted(orders[-1]) == list(range(144))
        assert torch.equal(torch.get_rng_state(), state)
    assert orders[:4] == orders[4:]
    assert len(set(orders)) == 4


def test_a_restored_loader_resumes_with_the_same_next_batches(train: Split) -> None:
    loader, restored = BatchLoader(train, 16, seed=5), BatchLoader(train, 16, seed=99)
    loader.set_epoch(2)
    batches = iter(loader)
    next(batches)
    restored.load_state_dict(loader.state_dict())
    restored.set_epoch(2)
    torch.testing.assert_close(ids_of(restored), [ids for ids, _ in batches])
    for each in (restored, loader):
        each.set_epoch(3)
    torch.testing.assert_close(ids_of(restored), ids_of(loader))  # the next epoch is whole again


def test_several_processes_share_the_batches_without_overlap(train: Split) -> None:
    alone = ids_of(BatchLoader(train, 16, seed=5))
    shared = [ids_of(BatchLoader(train, 16, 5, rank, 2)) for rank in range(2)]
    assert [len(batches) for batches in shared] == [4, 4]
    # together their k-th batches are the two that one process would have met then
    for step, pair in enumerate(zip(*shared, strict=True)):
        together = torch.stack(pair, dim=1).flatten(0, 1)
        torch.testing.assert_close(together, torch.cat(alone[2 * step : 2 * step + 2]))
