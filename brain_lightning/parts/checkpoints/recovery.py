"""Which checkpoint is fit to be loaded, and which of its files go into which recoverable."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brain_lightning.ground.caller_warnings import warn_caller
from brain_lightning.parts.checkpoints.checkpoint import Checkpoint
from brain_lightning.parts.checkpoints.errors import (
    DamagedCheckpointError,
    MissingParametersError,
)
from brain_lightning.parts.checkpoints.integrity import Damage, find_damage


@dataclass(frozen=True)
class LoadRules:
    """What a Checkpointer wants to load, and what may be missing."""

    recoverables: Mapping[str, Any]
    optional: Mapping[str, bool]
    allow_partial_load: bool

    def files_to_load(self, checkpoint: Checkpoint) -> dict[str, Path]:
        """Return name -> file for what is loaded; warn of what is missing and may be.

        SpeechBrain's rules: with ``allow_partial_load`` anything may be missing, a recoverable with
        "dataloader" in its name always, and one that was added as optional.

        Raises:
            MissingParametersError: the file of another recoverable is missing.
        """
        files = {}
        for name in self.recoverables:
            path = checkpoint.paramfiles.get(name)
            if path is not None:
                files[name] = path
            elif not self.allow_partial_load:
                self._report_missing(name, checkpoint)
        return files

    def _report_missing(self, name: str, checkpoint: Checkpoint) -> None:
        missing = f"The checkpoint {checkpoint.path} has no file {name}.ckpt"
        if self._may_be_missing(name):
            warn_caller(f"{missing}; {name!r} stays as it is.")
            return
        raise MissingParametersError(
            f"{missing} for the recoverable {name!r}; it has {sorted(checkpoint.paramfiles)}. Give "
            "the Checkpointer allow_partial_load=True, or add the recoverable with "
            "optional_load=True, to load the others."
        )

    def _may_be_missing(self, name: str) -> bool:
        return "dataloader" in name or self._is_left_out(name)

    def _is_left_out(self, name: str) -> bool:
        return self.allow_partial_load or self.optional.get(name, False)

    def damages(self, checkpoint: Checkpoint) -> list[Damage]:
        """Return what is damaged in a checkpoint, without what may be missing."""
        return [damage for damage in find_damage(checkpoint.path) if not self._is_excused(damage)]

    def _is_excused(self, damage: Damage) -> bool:
        name = damage.recoverable
        if not damage.is_missing or name is None:
            return False
        # A loader's file may never have been there. If it was, its epoch would begin anew.
        return name not in self.recoverables or self._is_left_out(name)

    def whole_ones(self, checkpoints: Iterable[Checkpoint]) -> list[Checkpoint]:
        """Return the checkpoints without damage that have all the files."""
        wanted = {name for name in self.recoverables if not self._may_be_missing(name)}
        return [
            checkpoint
            for checkpoint in checkpoints
            if wanted <= set(checkpoint.paramfiles) and not self.damages(checkpoint)
        ]


def choose_whole(
    ranked: Sequence[Checkpoint],
    unreadable: Sequence[DamagedCheckpointError],
    is_newest_wanted: bool,
    rules: LoadRules,
) -> Checkpoint | None:
    """Return the first of ``ranked`` if it is whole, None if there is nothing at all.

    When the newest is wanted, the newest whole one is returned, with a warning about those before
    it. When it is the best by some key, another one will not do.

    Raises:
        DamagedCheckpointError: none of those that would do is whole.
    """
    problems = [str(error) for error in unreadable]
    candidates = ranked
    if not is_newest_wanted:
        candidates = [] if unreadable else ranked[:1]
    for candidate in candidates:
        damages = rules.damages(candidate)
        if not damages:
            if problems:
                warn_caller(
                    f"A newer checkpoint may be lost. {' '.join(problems)} "
                    f"Going on from the newest whole one, {candidate.path}."
                )
            return candidate
        problems += [f"{damage}." for damage in damages]
    if not problems:
        return None
    raise DamagedCheckpointError(f"{' '.join(problems)} {whole_ones_sentence(ranked, rules)}")


def whole_ones_sentence(checkpoints: Iterable[Checkpoint], rules: LoadRules) -> str:
    """Say which of the checkpoints are whole."""
    paths = [str(checkpoint.path) for checkpoint in rules.whole_ones(checkpoints)]
    if not paths:
        return "No other checkpoint there is whole."
    return f"These are whole and can be given to load_checkpoint: {', '.join(paths)}."
