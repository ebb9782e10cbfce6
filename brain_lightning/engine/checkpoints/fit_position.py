"""Where a fit is, and how to come there again from a Lightning checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from brain_lightning.engine.checkpoints.random_replay import Replay

START, TRAINING, VALIDATION, DONE = "start", "training", "validation", "done"


@dataclass
class FitPosition:
    """Where a fit was when a ``.ckpt`` was saved; tensors and plain values only."""

    phase: str
    """START: before the first epoch; TRAINING: in an epoch, after ``step`` batches; VALIDATION:
    after the TRAIN stage; DONE: after the epoch's validation."""

    epoch: int | None
    """The recipe's number of the epoch, None in START."""

    first_number: int
    """The number of the recipe's first epoch, zero or one."""

    step: int
    """Batches done in the epoch."""

    optimizer_step: int
    """Optimizer steps done."""

    avg_train_loss: Any
    """The running average of the epoch."""

    total_batches: int
    """Training batches done in all epochs."""

    callback_metrics: dict[str, float] = field(default_factory=dict)
    """What callbacks could monitor."""

    random_states: dict[str, Any] | None = None
    """The random states to go on with, where those of the moment of saving are not the ones."""

    start_states: dict[str, Any] | None = None
    """The random states with which the epoch's loader was begun."""

    loader: dict[str, Any] = field(default_factory=dict)
    """What the loader takes into its next epoch."""

    trainers_loader: dict[str, Any] = field(default_factory=dict)
    """In a Trainer of the user's: how the epoch began, and what its loaders take into the next."""

    validation_due: bool = False
    """Whether, by ``val_interval_steps``, validation comes before the next batch."""

    training_notes: dict[str, Any] = field(default_factory=dict)
    """What the recipe noted on its Brain at the end of TRAIN, in VALIDATION."""

    def as_dict(self) -> dict[str, Any]:
        """Return it as a dictionary to be saved."""
        return asdict(self)

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> FitPosition:
        """Return what :meth:`as_dict` was called on; what other versions add is left out."""
        known = {each.name for each in fields(cls)}
        return cls(**{name: value for name, value in state.items() if name in known})

    @property
    def end_of_epoch(self) -> bool:
        """Whether no epoch is in progress, so that the next one comes."""
        return self.phase in (START, DONE)

    def resume_state(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Return what to resume from, given what was captured when the checkpoint was saved."""
        if self.random_states is None:
            return dict(state)
        return {**state, "random_states": self.random_states}

    def replay(self, loader_resumes: bool) -> Replay | None:
        """Return how the loader comes to where it was, or None for a whole epoch."""
        if self.phase != TRAINING:
            return None
        return Replay(self.step, self.start_states, loader_resumes)
