"""Saves, finds, loads and deletes checkpoints, in SpeechBrain's format and with its interface."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from brain_lightning.ground.caller_warnings import warn_caller
from brain_lightning.ground.loggers import get_logger
from brain_lightning.ground.ranks import alone, get_rank, if_main_process, main_process_only
from brain_lightning.parts.checkpoints.checkpoint import (
    CKPT_PREFIX,
    METAFNAME,
    Checkpoint,
    ckpt_recency,
    find_paramfiles,
    is_checkpoint_dir,
)
from brain_lightning.parts.checkpoints.draft import CheckpointDraft
from brain_lightning.parts.checkpoints.durable_folder import delete_folder, settle
from brain_lightning.parts.checkpoints.errors import (
    CheckpointError,
    DamagedCheckpointError,
    RecoverablesTypeError,
    as_checkpoint_error,
    with_advice,
)
from brain_lightning.parts.checkpoints.gathering import gathered
from brain_lightning.parts.checkpoints.hook_choice import (
    ChosenHook,
    choose_load_hooks,
    choose_save_hooks,
    need_other_processes,
)
from brain_lightning.parts.checkpoints.hooks import Hook
from brain_lightning.parts.checkpoints.integrity import CHECKSUMS, require_whole_file
from brain_lightning.parts.checkpoints.joint_save import save_jointly
from brain_lightning.parts.checkpoints.meta_file import read_meta
from brain_lightning.parts.checkpoints.recovery import (
    LoadRules,
    choose_whole,
    whole_ones_sentence,
)
from brain_lightning.parts.checkpoints.selection import (
    ImportanceKey,
    Predicate,
    check_number_to_keep,
    choose_deletions,
    rank_checkpoints,
)

logger = get_logger(__name__)


class Checkpointer:
    """Saves checkpoints and recovers from them.

    Each checkpoint is a folder in ``checkpoints_dir`` with one file for each recoverable; see
    :class:`Checkpoint`. SpeechBrain reads what is saved here and the other way round.

    A save is all or nothing, and so is a deletion: whatever happens meanwhile, a checkpoint that
    can be seen is whole. When only the main process has to write (which is so unless a
    ``custom_save_hook`` or a saver registered with ``save_on_main_only=False`` is there), no
    process waits for another in a save or a deletion, so it may as well be called by the main
    process alone. Where parameters are sharded a save needs all processes, see ``gathering``.
    """

    def __init__(
        self,
        checkpoints_dir: str | Path,
        recoverables: Mapping[str, Any] | None = None,
        custom_load_hooks: Mapping[str, Hook] | None = None,
        custom_save_hooks: Mapping[str, Hook] | None = None,
        allow_partial_load: bool = False,
    ) -> None:
        """Create the folder, and tidy up in it after a process that was killed.

        Args:
            checkpoints_dir: the folder of the checkpoints.
            recoverables: unique name -> object to save and load. More can be added later.
            custom_load_hooks: name -> function ``(object, path, end_of_epoch)``.
            custom_save_hooks: name -> function ``(object, path)``.
            allow_partial_load: load what a checkpoint has and leave other recoverables as they are.
        """
        self.checkpoints_dir = Path(checkpoints_dir)
        self.checkpoints_dir.mkdir(parents=True, exist_ok=True)
        self.recoverables: dict[str, Any] = {}
        self.optional_recoverables: dict[str, bool] = {}
        if recoverables is not None:
            self.add_recoverables(recoverables)
        self.custom_load_hooks: dict[str, Hook] = dict(custom_load_hooks or {})
        self.custom_save_hooks: dict[str, Hook] = dict(custom_save_hooks or {})
        self.allow_partial_load = allow_partial_load
        self.epoch_in_progress = False
        """Whether to save, whatever is asked for, as in the middle of an epoch.

        Set while validation comes every so many steps: a recipe takes it for the epoch's end."""
        self._before_access: list[Callable[[], None]] = []
        self._tidy_up()

    def add_recoverable(
        self,
        name: str,
        obj: Any,
        custom_load_hook: Hook | None = None,
        custom_save_hook: Hook | None = None,
        optional_load: bool = False,
    ) -> None:
        """Add an object to save and load.

        Args:
            name: unique; its file in a checkpoint is named so.
            obj: the object.
            custom_load_hook: function ``(obj, path, end_of_epoch)`` used to load it.
            custom_save_hook: function ``(obj, path)`` used to save it.
            optional_load: a checkpoint without it can be loaded, with a warning.
        """
        self.recoverables[name] = obj
        self.optional_recoverables[name] = optional_load
        if custom_load_hook is not None:
            self.custom_load_hooks[name] = custom_load_hook
        if custom_save_hook is not None:
            self.custom_save_hooks[name] = custom_save_hook

    def add_recoverables(self, recoverables: Mapping[str, Any]) -> None:
        """Add several objects, given as a mapping from their unique names.

        Raises:
            RecoverablesTypeError: it is no mapping.
        """
        if not isinstance(recoverables, Mapping):
            raise RecoverablesTypeError(
                "recoverables must be a mapping from names to objects, e.g. a dict, but "
                f"{recoverables!r} was given."
            )
        self.recoverables.update(recoverables)

    def save_checkpoint(
        self,
        meta: Mapping[str, Any] | None = None,
        end_of_epoch: bool = True,
        name: str | None = None,
        verbosity: int = logging.INFO,
    ) -> Checkpoint | None:
        """Save a checkpoint and return it; None on other processes than the main one.

        Args:
            meta: plain values to keep with it, by which it can be found again.
            end_of_epoch: whether an epoch is complete; load hooks are told.
            name: the folder is ``CKPT+name``, and replaces one of that name. Without it the
                folder is named by the time.
            verbosity: the level at which the save is logged.

        Raises:
            CheckpointError: it could not be saved; nothing of it is left, the others are untouched.
        """
        hooks = gathered(self.choose_save_hooks(), self)
        return None if hooks is None else self.save_with(hooks, meta, end_of_epoch, name, verbosity)

    def save_with(
        self,
        hooks: list[ChosenHook],
        meta: Mapping[str, Any] | None,
        end_of_epoch: bool,
        name: str | None,
        verbosity: int,
    ) -> Checkpoint | None:
        """Save with hooks that were chosen, and gathered, before; see :meth:`save_checkpoint`."""
        if need_other_processes(hooks):
            checkpoint = save_jointly(hooks, lambda: self.open_draft(meta, end_of_epoch, name))
        elif not if_main_process():
            return None
        else:
            with alone():
                checkpoint = self._save_alone(hooks, self.open_draft(meta, end_of_epoch, name))
        if checkpoint is not None:
            self.log_saved(checkpoint, verbosity)
        return checkpoint

    def choose_save_hooks(self) -> list[ChosenHook]:
        """Return what will save each recoverable, in the order in which they are saved."""
        return choose_save_hooks(self.recoverables, self.custom_save_hooks)

    def open_draft(
        self, meta: Mapping[str, Any] | None, end_of_epoch: bool, name: str | None
    ) -> CheckpointDraft:
        """Begin a checkpoint of which nothing is visible until it is finished."""
        self._wait_for_writer()
        self.checkpoints_dir.mkdir(parents=True, exist_ok=True)
        self._tidy_up()
        is_end = end_of_epoch and not self.epoch_in_progress
        return CheckpointDraft(self.checkpoints_dir, meta or {}, is_end, name)

    @staticmethod
    def _save_alone(hooks: list[ChosenHook], draft: CheckpointDraft) -> Checkpoint:
        with draft.dropped_on_error():
            for chosen in hooks:
                chosen.save(draft.path, draft.target)
            return draft.finish([chosen.name for chosen in hooks])

    @staticmethod
    def log_saved(checkpoint: Checkpoint, verbosity: int) -> None:
        """Log that a checkpoint was saved."""
        kind = "end-of-epoch" if checkpoint.meta["end-of-epoch"] else "intra-epoch"
        logger.log(verbosity, f"Saved an {kind} checkpoint in {checkpoint.path}")

    def save_and_keep_only(
        self,
        meta: Mapping[str, Any] | None = None,
        end_of_epoch: bool = True,
        name: str | None = None,
        num_to_keep: int = 1,
        keep_recent: bool = True,
        importance_keys: Iterable[ImportanceKey] = (),
        max_keys: Iterable[str] | None = None,
        min_keys: Iterable[str] | None = None,
        ckpt_predicate: Predicate | None = None,
        verbosity: int = logging.INFO,
    ) -> None:
        """Save a checkpoint, then delete those that no key wants to keep.

        The first four arguments are those of :meth:`save_checkpoint`, the others those of
        :meth:`delete_checkpoints`. ``keep_recent`` also keeps the ``num_to_keep`` newest ones.
        """
        # By name, as SpeechBrain's does: a subclass may have the arguments in another order.
        self.save_checkpoint(meta=meta, end_of_epoch=end_of_epoch, name=name, verbosity=verbosity)
        self.delete_checkpoints(
            num_to_keep=num_to_keep,
            max_keys=max_keys,
            min_keys=min_keys,
            importance_keys=[*importance_keys, *([ckpt_recency] if keep_recent else [])],
            ckpt_predicate=ckpt_predicate,
            verbosity=verbosity,
        )

    def find_checkpoint(
        self,
        importance_key: ImportanceKey | None = None,
        max_key: str | None = None,
        min_key: str | None = None,
        ckpt_predicate: Predicate | None = None,
    ) -> Checkpoint | None:
        """Return the first that :meth:`find_checkpoints` finds, or None."""
        found = self.find_checkpoints(
            importance_key=importance_key,
            max_key=max_key,
            min_key=min_key,
            ckpt_predicate=ckpt_predicate,
            max_num_checkpoints=1,
        )
        return found[0] if found else None

    def find_checkpoints(
        self,
        importance_key: ImportanceKey | None = None,
        max_key: str | None = None,
        min_key: str | None = None,
        ckpt_predicate: Predicate | None = None,
        max_num_checkpoints: int | None = None,
    ) -> list[Checkpoint]:
        """Return checkpoints in order of importance; by default the newest first.

        Args:
            importance_key: function of a checkpoint; the highest value comes first.
            max_key: meta key whose highest value comes first; others than those that have it are
                left out.
            min_key: the same with the lowest value first.
            ckpt_predicate: function of a checkpoint; only those for which it is true are found.
            max_num_checkpoints: how many at most; None for all.
        """
        ranked = rank_checkpoints(
            self.list_checkpoints(), importance_key, max_key, min_key, ckpt_predicate
        )
        return ranked[:max_num_checkpoints]

    def list_checkpoints(self) -> list[Checkpoint]:
        """Return all checkpoints, in order of their names.

        One whose meta file is damaged is left out with a warning.
        """
        readable, unreadable = self._read_all()
        for error in unreadable:
            warn_caller(f"A checkpoint is left out. {error}")
        return readable

    def _read_all(self) -> tuple[list[Checkpoint], list[DamagedCheckpointError]]:
        self._wait_for_writer()
        readable, unreadable = [], []
        for folder in sorted(filter(_was_checkpoint, self._entries())):
            try:
                readable.append(_read(folder))
            except DamagedCheckpointError as error:
                unreadable.append(error)
        return readable, unreadable

    def _entries(self) -> list[Path]:
        try:
            return list(self.checkpoints_dir.iterdir()) if self.checkpoints_dir.is_dir() else []
        except OSError as error:
            message = f"The checkpoints in {self.checkpoints_dir} cannot be listed"
            raise as_checkpoint_error(message, error) from error

    def recover_if_possible(
        self,
        importance_key: ImportanceKey | None = None,
        max_key: str | None = None,
        min_key: str | None = None,
        ckpt_predicate: Predicate | None = None,
        device: Any = None,
    ) -> Checkpoint | None:
        """Load a checkpoint if there is one and return it, or None.

        The main process chooses for all. The arguments say which, as in :meth:`find_checkpoints`.
        Without a key the newest is loaded; if it is damaged, the newest whole one, with a warning.

        Raises:
            DamagedCheckpointError: a key was given and what it asks for is damaged, or every
                checkpoint is.
            CheckpointError: it could not be loaded.
        """
        _explain_device(device)
        choose = main_process_only(self._choose_whole)
        chosen = choose(importance_key, max_key, min_key, ckpt_predicate)
        if chosen is None:
            logger.info("Would load a checkpoint here, but none found yet.")
            return None
        if not chosen.path.is_dir():
            raise CheckpointError(
                f"The main process goes on from {chosen.path}, which process {get_rank()} does not "
                "find: its machine has a file system of its own. Copy the checkpoint there, keep "
                "checkpoints on a file system that all machines see, or call "
                "convert_torch_save_hooks_to_once_per_node() and save in all processes."
            )
        try:
            load = self.load_checkpoint if self._overrides("load_checkpoint") else self._load
            load(chosen)
        except CheckpointError as error:
            others = [other for other in self._read_all()[0] if other.path != chosen.path]
            sentence = whole_ones_sentence(others, self._load_rules())
            raise with_advice(error, sentence) from error
        return chosen

    def _choose_whole(
        self,
        importance_key: ImportanceKey | None,
        max_key: str | None,
        min_key: str | None,
        ckpt_predicate: Predicate | None,
    ) -> Checkpoint | None:
        self._tidy_up()
        readable, unreadable = self._read_all()
        if self._overrides("find_checkpoints"):
            ranked = self.find_checkpoints(
                importance_key=importance_key,
                max_key=max_key,
                min_key=min_key,
                ckpt_predicate=ckpt_predicate,
            )
        else:
            ranked = rank_checkpoints(readable, importance_key, max_key, min_key, ckpt_predicate)
        is_newest_wanted = not (importance_key or max_key or min_key)
        return choose_whole(ranked, unreadable, is_newest_wanted, self._load_rules())

    def load_checkpoint(self, checkpoint: Checkpoint, device: Any = None) -> None:
        """Load a checkpoint into the recoverables, on each process that calls this.

        Raises:
            DamagedCheckpointError: its files are not what was saved.
            CheckpointError: a file is missing or does not fit; the message names it and the
                recoverable.
        """
        _explain_device(device)
        self._wait_for_writer()
        damages = self._load_rules().damages(checkpoint)
        if damages:
            raise DamagedCheckpointError(" ".join(f"{damage}." for damage in damages))
        self._load(checkpoint)

    def _load(self, checkpoint: Checkpoint) -> None:
        logger.info(f"Loading a checkpoint from {checkpoint.path}")
        if "end-of-epoch" not in checkpoint.meta:
            raise CheckpointError(f"{checkpoint.path / METAFNAME} does not say end-of-epoch.")
        files = self._load_rules().files_to_load(checkpoint)
        for chosen in choose_load_hooks(self.recoverables, files, self.custom_load_hooks):
            chosen.load(files[chosen.name], checkpoint.meta["end-of-epoch"])

    def _overrides(self, method: str) -> bool:
        """Whether a subclass has a method of its own, which then must be asked, as in SpeechBrain.

        Ours would read every checkpoint a second time.
        """
        return getattr(type(self), method) is not getattr(Checkpointer, method)

    def _load_rules(self) -> LoadRules:
        return LoadRules(self.recoverables, self.optional_recoverables, self.allow_partial_load)

    def delete_checkpoints(
        self,
        *,
        num_to_keep: int = 1,
        min_keys: Iterable[str] | None = None,
        max_keys: Iterable[str] | None = None,
        importance_keys: Iterable[ImportanceKey] = (ckpt_recency,),
        ckpt_predicate: Predicate | None = None,
        verbosity: int = logging.INFO,
    ) -> None:
        """Delete the checkpoints that no key wants to keep; the main process does.

        Each key keeps the ``num_to_keep`` checkpoints that it ranks highest. Without any key
        nothing is deleted.

        Args:
            num_to_keep: how many each key keeps; 0 deletes all that the keys can rank.
            min_keys: meta keys whose lowest values are kept.
            max_keys: meta keys whose highest values are kept.
            importance_keys: functions of a checkpoint whose highest values are kept.
            ckpt_predicate: function of a checkpoint; those for which it is false are kept.
            verbosity: the level at which deletions are logged.

        Raises:
            ValueError: ``num_to_keep`` is negative.
        """
        check_number_to_keep(num_to_keep)
        if not if_main_process():
            return
        known = self.list_checkpoints()
        if self._overrides("find_checkpoints"):
            shown = {each.path for each in self.find_checkpoints()}
            known = [each for each in known if each.path in shown]
        deletions = choose_deletions(
            known,
            num_to_keep,
            importance_keys=list(importance_keys),
            max_keys=max_keys or (),
            min_keys=min_keys or (),
            ckpt_predicate=ckpt_predicate,
        )
        for checkpoint in deletions:
            _delete(checkpoint, verbosity)

    def call_before_access(self, wait: Callable[[], None]) -> None:
        """Call ``wait`` before anything is read from or written to the folder.

        It is how a writer beside lets everything else wait until it has finished.
        """
        self._before_access.append(wait)

    def _wait_for_writer(self) -> None:
        for wait in self._before_access:
            wait()

    def _tidy_up(self) -> None:
        if not if_main_process() or not self.checkpoints_dir.is_dir():
            return
        try:
            found = settle(self.checkpoints_dir)
        except OSError as error:  # a folder that can only be read can still be loaded from
            logger.warning(f"What a killed process left in {self.checkpoints_dir} stays: {error}")
            return
        for left_over in found:
            logger.info(f"Tidied up {left_over}, which a killed process left")


def _was_checkpoint(folder: Path) -> bool:
    """Whether a folder is a checkpoint, or one of ours whose meta file is missing."""
    if not folder.name.startswith(CKPT_PREFIX):
        return False
    try:
        return is_checkpoint_dir(folder) or (folder / CHECKSUMS).exists()
    except PermissionError:  # nobody may look into it, and it may well be the newest
        return True


def _read(folder: Path) -> Checkpoint:
    meta = read_meta(folder / METAFNAME)
    require_whole_file(folder / METAFNAME)
    try:
        return Checkpoint(folder, meta, find_paramfiles(folder))
    except OSError as error:
        raise DamagedCheckpointError(f"{folder} cannot be read: {error.strerror}.") from error


def _delete(checkpoint: Checkpoint, verbosity: int) -> None:
    if not is_checkpoint_dir(checkpoint.path):
        raise CheckpointError(f"{checkpoint.path} is not deleted: it is no checkpoint.")
    try:
        delete_folder(checkpoint.path)
    except OSError as error:
        message = f"The checkpoint {checkpoint.path} could not be deleted"
        raise as_checkpoint_error(message, error) from error
    logger.log(verbosity, f"Deleted checkpoint in {checkpoint.path}")


def _explain_device(device: Any) -> None:
    if device is not None:
        warn_caller(
            f"device={device!r} is not needed any more and ignored: files are read on the CPU, and "
            "what they hold goes to where each recoverable is."
        )
