"""Loaders with workers that no checkpointer saves: an epoch is begun again up to where it was."""

from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from brain_lightning.engine.checkpoints.random_replay import LoaderOrder, Replay

DONE = 2


class Drawing(Dataset[Any]):
    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> float:
        return torch.rand(1).item()


def epoch(loader: DataLoader[Any]) -> list[float]:
    return [batch.item() for batch in loader]


@pytest.mark.parametrize(
    ("persist", "epochs_before", "is_same"), [(False, 1, True), (True, 0, True), (True, 1, False)]
)
def test_the_rest_of_an_epoch(persist: bool, epochs_before: int, is_same: bool) -> None:
    torch.manual_seed(3)

    def make_loader() -> DataLoader[Any]:
        return DataLoader(Drawing(), num_workers=1, persistent_workers=persist)

    loader, resumed = make_loader(), make_loader()
    for _ in range(epochs_before):
        epoch(loader)
    states = LoaderOrder(loader).at_start()
    whole = epoch(loader)
    rest = Replay(DONE, states, loader_resumes=False).start(resumed, LoaderOrder(resumed))
    assert ([batch.item() for batch in rest] == whole[DONE:]) is is_same
