"""A Brain inside Lightning's own ``.ckpt`` files: everything its checkpointer would save.

The file has, under the key ``brain_lightning``, tensors and plain values only::

    files       {file name: its bytes as a uint8 tensor}, as the save hooks of the recoverables
                wrote them
    names       {recoverable: "files" | "state_dict" | "optimizer_states"}, where its state is
    places      {recoverable: the beginning of its names in ``state_dict``, or its index in
                ``optimizer_states``}
    left_out    the recoverables that were not saved
    run         where the run was, from :class:`FitRun`, or None outside of a fit
    resume      what an exact resume needs besides, as in the checkpointer's own checkpoints; None
                in one that was converted from a folder of SpeechBrain's

Modules of the Brain are in Lightning's ``state_dict`` and optimizers in ``optimizer_states``. In a
checkpoint that was converted everything is in ``files``: nothing says what a recoverable is.
"""

from __future__ import annotations

import os
import pickle
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from brain_lightning.engine.brain_protocol import BrainProtocol
from brain_lightning.engine.checkpoints.resume_state import capture_resume_state
from brain_lightning.engine.checkpoints.wrapped_entries import wrapper_prefix
from brain_lightning.ground.loggers import get_logger
from brain_lightning.parts.checkpoints.gathering import gathered
from brain_lightning.parts.checkpoints.hook_choice import (
    ChosenHook,
    choose_load_hooks,
    choose_save_hooks,
)
from brain_lightning.parts.checkpoints.pickled_objects import refused_class
from brain_lightning.parts.checkpoints.snapshot import writes_state_only

logger = get_logger(__name__)

KEY = "brain_lightning"
FILES, STATE_DICT, OPTIMIZER_STATES = "files", "state_dict", "optimizer_states"


def brain_state(
    brain: BrainProtocol,
    optimizers: Iterable[object],
    run: Mapping[str, Any] | None,
    left_out: Iterable[object] = (),
) -> dict[str, Any]:
    """Return what goes into a ``.ckpt`` file under :data:`KEY`.

    Args:
        brain: the recipe.
        optimizers: those whose states Lightning saves itself.
        run: where the run is.
        left_out: recoverables that are not saved now.
    """
    state: dict[str, Any] = {"files": {}, "names": {}, "places": {}, "left_out": [], "run": run}
    state["resume"] = capture_resume_state(brain)
    checkpointer = brain.checkpointer
    if checkpointer is None:
        return state
    elsewhere = _places(brain.modules, optimizers)
    hidden = {id(each) for each in left_out}
    in_files = []
    with tempfile.TemporaryDirectory() as folder:
        for chosen in _save_hooks(checkpointer):
            if id(chosen.obj) in hidden:
                state["left_out"].append(chosen.name)
            elif id(chosen.obj) in elsewhere and writes_state_only(chosen.hook):
                kind, place = elsewhere[id(chosen.obj)]
                state["names"][chosen.name], state["places"][chosen.name] = kind, place
            elif not _is_plain_brain(chosen, brain):
                state["names"][chosen.name] = FILES
                in_files.append(chosen)
        for chosen in gathered(in_files, checkpointer) or ():
            chosen.save(Path(folder), Path(folder))
        state["files"] = read_files(Path(folder))
    return state


def _places(
    modules: torch.nn.ModuleDict, optimizers: Iterable[object]
) -> dict[int, tuple[str, str | int]]:
    """Return the objects' ids -> which of Lightning's entries has their state, and where in it."""
    places: dict[int, tuple[str, str | int]] = {}
    for name, module in modules.named_modules():
        prefix = _unwrapped_key(f"{_PREFIX}{name}." if name else _PREFIX, modules)
        places[id(module)] = (STATE_DICT, prefix)
    for index, optimizer in enumerate(optimizers):
        places[id(optimizer)] = (OPTIMIZER_STATES, index)
    return places


def with_weights(
    checkpoint: dict[str, Any], present: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Return a checkpoint's ``state_dict``; of a converted one what is there now.

    Its weights are in ``files``, which are loaded once the recipe is set up.
    """
    given: dict[str, torch.Tensor] = checkpoint["state_dict"]
    saved = checkpoint.get(KEY)
    return {**present, **given} if saved is not None and saved.get("is_converted") else given


def load_recoverables(
    state: Mapping[str, Any], brain: BrainProtocol, end_of_epoch: bool
) -> list[object]:
    """Run the load hooks of all recoverables that have files; return the objects.

    Raises:
        CheckpointError: a file does not fit its recoverable.
    """
    checkpointer = brain.checkpointer
    if checkpointer is None:
        return []
    recoverables = checkpointer.recoverables
    names = [name for name, place in state["names"].items() if place == FILES]
    for name in recoverables:
        accounted = name in state["names"] or name in state.get("left_out", ())
        if not accounted and recoverables[name] is not brain:
            logger.warning("The checkpoint has nothing for the recoverable %r; it stays.", name)
    known = [name for name in names if name in recoverables]
    for name in names:
        if name not in recoverables:
            logger.warning("The checkpoint has a recoverable %r, which this run lacks.", name)
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder), state["files"])
        hooks = choose_load_hooks(recoverables, known, checkpointer.custom_load_hooks)
        for chosen in hooks:
            chosen.load(Path(folder) / chosen.filename, end_of_epoch)
    return [recoverables[name] for name in known]


def _save_hooks(checkpointer: Any) -> list[ChosenHook]:
    return choose_save_hooks(checkpointer.recoverables, checkpointer.custom_save_hooks)


def _is_plain_brain(chosen: ChosenHook, brain: BrainProtocol) -> bool:
    # Its numbers are in `run` and `resume`, unless the recipe saves more.
    return chosen.obj is brain and getattr(brain, "_saves_only_counters", False)


def read_files(folder: Path) -> dict[str, torch.Tensor]:
    """Return the names of all files below ``folder`` -> their bytes."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): _as_tensor(path.read_bytes()) for path in paths}


def write_files(folder: Path, files: Mapping[str, torch.Tensor]) -> None:
    """Write what :func:`read_files` returned."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.numpy().tobytes())


def _as_tensor(content: bytes) -> torch.Tensor:
    # A pickled bytes object could not be read without unpickling anything at all.
    if not content:
        return torch.empty(0, dtype=torch.uint8)
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)


def checked_path(path: str | os.PathLike[str] | None) -> str | None:
    """Return the path of a checkpoint to resume from as Lightning takes it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is a folder, as SpeechBrain's checkpoints are.
    """
    if path is None:
        return None
    text = os.fspath(path)
    if text in ("last", "best", "hpc") or "://" in text:
        return text
    if os.path.isdir(text) and os.path.exists(os.path.join(text, "CKPT.yaml")):
        raise ValueError(
            f"ckpt_path={text!r} is a checkpoint of the Checkpointer's, which fit() recovers by "
            "itself when the Brain has a checkpointer. ckpt_path is for Lightning's .ckpt files."
        )
    if not os.path.exists(text):
        raise FileNotFoundError(
            f"ckpt_path={text!r} does not exist. Give the path of a .ckpt file, or 'last' for the "
            "newest one that ModelCheckpoint(save_last=True) has saved."
        )
    return text


def read_checkpoint_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what a ``.ckpt`` file holds, without reading its tensors yet.

    Raises:
        ValueError: it is no such file, or holds pickled objects of other classes.
    """
    try:
        content = torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except (RuntimeError, EOFError, LookupError, OSError, pickle.UnpicklingError) as error:
        culprit = refused_class(error)
        if culprit is None:
            raise ValueError(
                f"{path} cannot be resumed from: it is no checkpoint, or only a part of one "
                f"({error})."
            ) from error
        raise ValueError(
            f"{path} cannot be resumed from: it holds pickled Python objects ({culprit}), and "
            "loading those can run any code. If you trust the file, allow their classes with "
            "torch.serialization.add_safe_globals; or have the callback or data module that saves "
            "them give tensors, numbers, strings, lists and dicts from its state_dict()."
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} cannot be resumed from: it holds a {type(content).__name__}.")
    return content


# -- names of parameters -----------------------------------------------------------------------

_PREFIX = "brain_modules."


def unwrapped_keys(state_dict: Mapping[str, Any], modules: torch.nn.ModuleDict) -> dict[str, Any]:
    """Return the state dict with the names that its entries have before compiling and wrapping."""
    return {_unwrapped_key(key, modules): value for key, value in state_dict.items()}


def current_keys(
    state_dict: Mapping[str, Any], modules: torch.nn.ModuleDict, present: Iterable[str]
) -> dict[str, Any]:
    """Return the state dict with the names that its entries have now."""
    now = {_unwrapped_key(key, modules): key for key in present}
    return {
        now.get(key, now.get(_unwrapped_key(key, modules), key)): value
        for key, value in state_dict.items()
    }


def _unwrapped_key(key: str, modules: torch.nn.ModuleDict) -> str:
    if not key.startswith(_PREFIX):
        return key
    entry, _, rest = key[len(_PREFIX) :].partition(".")
    module: Any = dict(modules.items()).get(entry)
    while (inner := wrapper_prefix(module)) is not None and rest.startswith(inner):
        rest, module = rest[len(inner) :], getattr(module, inner[:-1])
    return f"{_PREFIX}{entry}.{rest}"
