"""Batches and their order."""

from pathlib import Path

import torch
from prepared import data_of

from lit_imdb.data.loader import BatchLoader


def ids_of(loader: BatchLoader) -> list[torch.Tensor]:
    return [ids for ids, _ in loader]


def test_training_batches_are_full_and_reshuffled_each_epoch(corpus: Path) -> None:
    part = data_of(corpus).splits["train"]  # 144 reviews
    loader = BatchLoader(part, 32, seed=5)
    assert len(loader) == 4
    first = ids_of(loader)
    assert [len(ids) for ids in first] == [32] * 4
    assert first[0].dtype == torch.int32
    loader.set_epoch(1)
    second = ids_of(loader)
    assert not torch.equal(torch.cat(first), torch.cat(second))
    assert sorted(loader.order().tolist()) == list(range(144))


def test_validation_and_test_drop_no_review_and_keep_the_order(corpus: Path) -> None:
    module = data_of(corpus, batch_size=15)
    for name, loader in (("val", module.val_dataloader()), ("test", module.test_dataloader())):
        batches = list(loader)
        assert len(batches) == len(loader)
        assert torch.equal(torch.cat([ids for ids, _ in batches]), module.splits[name].ids.int())
        assert torch.equal(torch.cat([y for _, y in batches]), module.splits[name].labels.float())


def test_order_is_a_function_of_seed_and_epoch_alone(corpus: Path) -> None:
    part = data_of(corpus).splits["train"]

    def order(seed: int, epoch: int) -> list[int]:
        torch.rand(3)  # the global generator has no say, and is left alone
        loader = BatchLoader(part, 16, seed=seed)
        loader.set_epoch(epoch)
        return loader.order().tolist()

    torch.manual_seed(1)
    orders = [order(seed, epoch) for seed in (1, 2) for epoch in (0, 1)]
    torch.manual_seed(2)
    assert orders == [order(seed, epoch) for seed in (1, 2) for epoch in (0, 1)]
    assert len({tuple(rows) for rows in orders}) == 4

    state = torch.get_rng_state()
    ids_of(BatchLoader(part, 16, seed=1))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_restored_loader_resumes_with_the_same_next_batches(corpus: Path) -> None:
    part = data_of(corpus).splits["train"]
    loader = BatchLoader(part, 16, seed=5)
    loader.set_epoch(2)
    batches = iter(loader)
    for _ in range(3):
        next(batches)
    state = loader.state_dict()
    rest = [ids for ids, _ in batches]

    restored = BatchLoader(part, 16, seed=99)
    restored.load_state_dict(state)
    restored.set_epoch(2)
    torch.testing.assert_close(ids_of(restored), rest)
    restored.set_epoch(3)
    loader.set_epoch(3)
    torch.testing.assert_close(ids_of(restored), ids_of(loader))  # the next epoch is whole again


def test_several_processes_share_the_batches_without_overlap(corpus: Path) -> None:
    part = data_of(corpus).splits["train"]
    alone = ids_of(BatchLoader(part, 16, seed=5))
    shared = [ids_of(BatchLoader(part, 16, 5, rank, 2)) for rank in range(2)]
    assert [len(batches) for batches in shared] == [4, 4]
    # together their k-th batches are the two that one process would have met then
    for step, pair in enumerate(zip(*shared, strict=True)):
        together = torch.stack(pair, dim=1).flatten(0, 1)
        torch.testing.assert_close(together, torch.cat(alone[2 * step : 2 * step + 2]))
