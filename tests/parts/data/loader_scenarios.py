"""Data sets and samplers that the tests of the saveable loader run through."""

import random

import torch
from torch.utils.data import BatchSampler, Dataset, RandomSampler


class Recording(Dataset):
    """Numbers; notes which ones were loaded (in this process)."""

    def __init__(self, length):
        self.length = length
        self.loaded = []

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        self.loaded.append(index)
        return index


class EagerSampler:
    """Draws its order from torch's global generator as soon as it is iterated over."""

    def __init__(self, length):
        self.length = length

    def __len__(self):
        return self.length

    def __iter__(self):
        return iter(torch.randperm(self.length).tolist())


class OneByOneSampler(EagerSampler):
    """Draws each index when it is asked for, from Python's generator."""

    def __iter__(self):
        for _ in range(self.length):
            yield random.randrange(self.length)


class RegeneratingBatchSampler:
    """Makes the next epoch's batches when run to its end, as DynamicBatchSampler does."""

    def __init__(self, length, batch_size):
        self.length, self.batch_size = length, batch_size
        self.rounds = 0
        self._generate()

    def _generate(self):
        generator = torch.Generator().manual_seed(self.rounds)
        order = torch.randperm(self.length, generator=generator).tolist()
        self.batches = [
            order[start : start + self.batch_size]
            for start in range(0, self.length, self.batch_size)
        ]

    def __iter__(self):
        yield from self.batches
        self.rounds += 1
        self._generate()

    def __len__(self):
        return len(self.batches)


def generator():
    return torch.Generator().manual_seed(11)


# name -> (length, batch_size, drop_last, random sampler class) -> arguments of a DataLoader.
SCENARIOS = {
    "in order": lambda n, b, d, _: {"batch_size": b, "drop_last": d},
    "torch's shuffling": lambda n, b, d, _: {"batch_size": b, "drop_last": d, "shuffle": True},
    "torch's shuffling, own generator": lambda n, b, d, _: {
        "batch_size": b,
        "drop_last": d,
        "shuffle": True,
        "generator": generator(),
    },
    "replacement, sampler's generator": lambda n, b, d, _: {
        "batch_size": b,
        "drop_last": d,
        "sampler": RandomSampler(
            range(n), replacement=True, num_samples=n + 40, generator=generator()
        ),
    },
    "reproducible": lambda n, b, d, sampler_class: {
        "batch_size": b,
        "drop_last": d,
        "sampler": sampler_class(range(n)),
    },
    "eager sampler": lambda n, b, d, _: {
        "batch_size": b,
        "drop_last": d,
        "sampler": EagerSampler(n),
    },
    "one by one": lambda n, b, d, _: {
        "batch_size": b,
        "drop_last": d,
        "sampler": OneByOneSampler(n),
    },
    "batch sampler": lambda n, b, d, _: {"batch_sampler": BatchSampler(EagerSampler(n), b, d)},
    "regenerating": lambda n, b, d, _: {"batch_sampler": RegeneratingBatchSampler(n, b)},
    "no batching": lambda n, b, d, _: {"batch_size": None, "shuffle": True},
    "no batching, sampler": lambda n, b, d, _: {"batch_size": None, "sampler": EagerSampler(n)},
}


def as_lists(batches):
    return [batch.tolist() if isinstance(batch, torch.Tensor) else batch for batch in batches]


def seed_everything(seed):
    torch.manual_seed(seed)
    random.seed(seed)


def random_numbers():
    """What the global generators give next."""
    return [*torch.rand(3).tolist(), random.random()]
