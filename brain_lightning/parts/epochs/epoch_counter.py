"""Epoch counters that can be saved, with and without stopping early."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from typing_extensions import override

from brain_lightning.ground.loggers import get_logger
from brain_lightning.parts.checkpoints.hooks import (
    mark_as_loader,
    mark_as_saver,
    mark_as_transfer,
    register_checkpoint_hooks,
)

logger = get_logger(__name__)


@register_checkpoint_hooks
class EpochCounter:
    """Iterate over the epochs 1, 2, ... limit, and go on from a checkpoint.

    Recovered from a checkpoint at the end of an epoch, the next epoch comes; from one in the
    middle of an epoch, the same epoch comes again.

    Args:
        limit: the last epoch.

    Raises:
        ValueError: the limit is no number.
    """

    def __init__(self, limit: int) -> None:
        """Start before the first epoch."""
        self.current = 0
        self.limit = _as_integer(limit, "limit")

    def __iter__(self) -> Iterator[int]:
        """Return the counter itself: it goes on where it is."""
        return self

    def __next__(self) -> int:
        """Go into the next epoch and return its number."""
        if self.current >= self.limit:
            raise StopIteration
        self.current += 1
        logger.info(f"Going into epoch {self.current}")
        return self.current

    @mark_as_saver
    def _save(self, path: str | Path) -> None:
        Path(path).write_text(str(self.current), encoding="utf-8")

    @mark_as_loader
    @mark_as_transfer
    def _recover(self, path: str | Path, end_of_epoch: bool = True) -> None:
        text = Path(path).read_text(encoding="utf-8")
        try:
            saved = int(text)
        except ValueError as error:
            raise ValueError(
                f"{path} should hold the number of an epoch, but holds {text[:50]!r}."
            ) from error
        self.current = saved if end_of_epoch else saved - 1


@register_checkpoint_hooks
class EpochCounterWithStopper(EpochCounter):
    """An EpochCounter that also ends when a metric no longer gets better.

    Its checkpoint file holds the epoch, which is all that SpeechBrain's Checkpointer saves and
    reads of a stopper (the method that saves the rest is not registered there). The best score and
    whether to stop are in a file beside it, ``<name>.ckpt.stopper``. Only a stopper that has judged
    no metric yet takes them from there; any other goes by what it has seen, as SpeechBrain's does.

    Args:
        limit: the last epoch.
        limit_to_stop: how many epochs in a row may bring no improvement.
        limit_warmup: how many epochs pass before improvement is looked for.
        direction: "min" when smaller is better, "max" when larger is.

    Raises:
        ValueError: a limit is negative or no number, or the direction is another word.
    """

    def __init__(self, limit: int, limit_to_stop: int, limit_warmup: int, direction: str) -> None:
        """Start before the first epoch, with no best score yet."""
        super().__init__(limit)
        self.limit_to_stop = _as_natural(limit_to_stop, "limit_to_stop")
        self.limit_warmup = _as_natural(limit_warmup, "limit_warmup")
        if direction not in ("min", "max"):
            raise ValueError(
                f"The direction of an EpochCounterWithStopper is {direction!r}, but must be 'min' "
                "(smaller is better) or 'max' (larger is better)."
            )
        self.direction = direction
        self.should_stop = False
        self.best_limit = 0
        self.min_delta = 1e-6
        self.sign = 1 if direction == "min" else -1
        self.best_score = self.sign * float("inf")
        self._has_judged = False

    @override
    def __next__(self) -> int:
        """Go into the next epoch, unless the patience is used up."""
        if self.should_stop:
            raise StopIteration
        return super().__next__()

    def update_metric(self, current_metric: float) -> None:
        """Take in the metric of the epoch that ends; once for each validation.

        A metric is better than the best so far when it beats it by ``min_delta``, relative to it.
        """
        self._has_judged = True
        if self.current <= self.limit_warmup:
            return
        threshold = (1 - self.min_delta) * self.best_score
        if self.sign * current_metric < self.sign * threshold:
            self.best_limit = self.current
            # A tensor or numpy number would be written as one, and no reader would take it.
            self.best_score = float(current_metric)
        without_improvement = self.current - self.best_limit
        self.should_stop = without_improvement >= self.limit_to_stop
        if self.should_stop:
            logger.info(
                f"{without_improvement} epochs without improvement.\n"
                f"Patience of {self.limit_to_stop} is exhausted, stopping."
            )

    @mark_as_saver
    @override
    def _save(self, path: str | Path) -> None:
        super()._save(path)
        state = {
            "current_epoch": self.current,
            "best_epoch": self.best_limit,
            "best_score": self.best_score,
            "should_stop": self.should_stop,
        }
        _stopper_path(path).write_text(yaml.dump(state), encoding="utf-8")

    @mark_as_loader
    @mark_as_transfer
    @override
    def _recover(self, path: str | Path, end_of_epoch: bool = True, device: object = None) -> None:
        del device  # older recipes pass one; there is nothing to put on it
        state = _read_stopper_state(path)
        if self._has_judged:
            # evaluate() loads the best checkpoint, and recipes save before update_metric().
            state = {"current_epoch": state["current_epoch"]}
        current = state["current_epoch"]
        self.current = current if end_of_epoch else current - 1
        self.best_limit = state.get("best_epoch", self.best_limit)
        self.best_score = state.get("best_score", self.best_score)
        self.should_stop = state.get("should_stop", self.should_stop)


def _stopper_path(path: str | Path) -> Path:
    return Path(f"{path}.stopper")


def _read_stopper_state(path: str | Path) -> dict[str, Any]:
    """Return what a checkpoint file and the one beside it say of a stopper.

    SpeechBrain's Checkpointer writes the epoch alone, its stopper's own method a mapping.
    """
    saved = _read_yaml(Path(path))
    if isinstance(saved, int) and not isinstance(saved, bool):
        beside = _stopper_path(path)
        state = _stopper_mapping(beside) if beside.exists() else {}
        # Another epoch: SpeechBrain has saved over an older checkpoint of ours.
        return state if state.get("current_epoch") == saved else {"current_epoch": saved}
    return _stopper_mapping(Path(path))


def _stopper_mapping(path: Path) -> dict[str, Any]:
    state = _read_yaml(path)
    expected = {"current_epoch", "best_epoch", "best_score", "should_stop"}
    if not isinstance(state, dict) or not expected <= state.keys():
        raise ValueError(
            f"{path} should hold the state of an EpochCounterWithStopper, a number or a mapping "
            f"with {sorted(expected)}, but holds {str(state)[:50]!r}."
        )
    return state


def _read_yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {error}") from error


def _as_integer(value: object, name: str) -> int:
    try:
        return int(value)  # type: ignore[call-overload, no-any-return]
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"The {name} of an epoch counter is {value!r}, but must be a number of epochs."
        ) from error


def _as_natural(value: int, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
        raise ValueError(
            f"The {name} of an EpochCounterWithStopper is {value!r}, but must be a number of "
            "epochs, 0 or more."
        )
    return value
