"""Dataclasses of `__main__` go through workers that are spawned; a package stands beside."""

from __future__ import annotations

import dataclasses
import enum
import pickle
import sys
from functools import partial
from pathlib import Path

import speechbrain
import torch
from beside import loss, shift
from hyperpyyaml import load_hyperpyyaml
from record import record, record_weights
from speechbrain import Brain as AnyBrain
from speechbrain import Stage as When
from torch.utils.data import Dataset


class Kind(enum.Enum):
    EVEN = 0
    ODD = 1


@dataclasses.dataclass(frozen=True)
class Example:
    noisy: torch.Tensor
    clean: torch.Tensor
    kind: Kind = Kind.EVEN


@dataclasses.dataclass
class Batch:
    noisy: torch.Tensor
    clean: torch.Tensor
    kinds: list[Kind]

    def to(self, device):
        return dataclasses.replace(self, noisy=self.noisy.to(device), clean=self.clean.to(device))


class Tones(Dataset):
    def __init__(self, length, seed):
        self.length, self.seed = length, seed

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(100 * self.seed + index)
        clean = torch.randn(200, generator=generator)
        return Example(clean + 0.1 * torch.rand(200), clean, Kind(index % 2))


def collate(examples, by=0.0):
    noisy = shift(torch.stack([example.noisy for example in examples])) + by
    clean = torch.stack([example.clean for example in examples])
    return Batch(noisy, clean, [example.kind for example in examples])


class SpawnedBrain(AnyBrain):
    def compute_forward(self, batch, stage):
        self.batch = batch.to(self.device)
        return self.modules.generator(self.batch.noisy.unsqueeze(-1)).squeeze(-1)

    def compute_objectives(self, predictions, batch, stage):
        value = loss(predictions, self.batch.clean)
        kinds = [kind.name for kind in batch.kinds]
        record(stage.name, loss=value, kinds=kinds, same=stage is When[stage.name])
        return value

    def on_stage_end(self, stage, stage_loss, epoch=None):
        if stage == When.VALID:
            self.checkpointer.save_and_keep_only({"loss": stage_loss}, min_keys=["loss"])


def main():
    hparams_file, run_opts, overrides = speechbrain.parse_arguments(sys.argv[1:])
    hparams = load_hyperpyyaml(Path(hparams_file).read_text(encoding="utf-8"), overrides)
    speechbrain.create_experiment_directory(hparams["output_folder"], hparams_file, overrides)
    brain = SpawnedBrain(
        hparams["modules"], hparams["opt_class"], hparams, run_opts, hparams["checkpointer"]
    )
    options = {"batch_size": 2, "num_workers": 2, "collate_fn": partial(collate, by=0.01)}
    brain.fit(
        hparams["epoch_counter"],
        Tones(6, 1),
        Tones(3, 2),
        train_loader_kwargs={
            **options,
            "shuffle": True,
            "multiprocessing_context": "spawn",
            "persistent_workers": True,
        },
        valid_loader_kwargs={**options, "multiprocessing_context": "forkserver"},
    )
    record(
        "test", loss=float(brain.evaluate(Tones(4, 3), min_key="loss", test_loader_kwargs=options))
    )
    example = pickle.loads(pickle.dumps(Example(1, 2, Kind.ODD)))
    record("pickled", example=example, module=Example.__module__, package=__package__)
    record_weights("final", brain.modules)


if __name__ == "__main__":
    main()
