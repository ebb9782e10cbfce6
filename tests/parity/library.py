"""The same names from SpeechBrain, from brain_lightning, and from both at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Library:
    """What a scenario may use. A scenario names no library itself."""

    name: str
    Brain: Any
    Stage: Any
    Checkpointer: Any
    EpochCounter: Any
    EpochCounterWithStopper: Any
    SaveableDataLoader: Any
    LoopedLoader: Any
    PaddedBatch: Any
    FileTrainLogger: Any
    make_dataloader: Any
    register_checkpoint_hooks: Any
    mark_as_saver: Any
    mark_as_loader: Any


def speechbrain_library() -> Library:
    """Everything from the installed SpeechBrain: the reference."""
    import speechbrain
    from speechbrain.dataio.batch import PaddedBatch
    from speechbrain.dataio.dataloader import LoopedLoader, SaveableDataLoader, make_dataloader
    from speechbrain.utils import checkpoints
    from speechbrain.utils.epoch_loop import EpochCounter, EpochCounterWithStopper
    from speechbrain.utils.train_logger import FileTrainLogger

    return Library(
        name="speechbrain",
        Brain=speechbrain.Brain,
        Stage=speechbrain.Stage,
        Checkpointer=checkpoints.Checkpointer,
        EpochCounter=EpochCounter,
        EpochCounterWithStopper=EpochCounterWithStopper,
        SaveableDataLoader=SaveableDataLoader,
        LoopedLoader=LoopedLoader,
        PaddedBatch=PaddedBatch,
        FileTrainLogger=FileTrainLogger,
        make_dataloader=make_dataloader,
        register_checkpoint_hooks=checkpoints.register_checkpoint_hooks,
        mark_as_saver=checkpoints.mark_as_saver,
        mark_as_loader=checkpoints.mark_as_loader,
    )


def our_library() -> Library:
    """Everything from brain_lightning."""
    import brain_lightning

    names = [name for name in Library.__dataclass_fields__ if name != "name"]
    return Library(
        name="brain_lightning", **{name: getattr(brain_lightning, name) for name in names}
    )


def mixed_library() -> Library:
    """Our Brain, SpeechBrain's everything else: a recipe that only changed its Brain."""
    import brain_lightning

    return replace(speechbrain_library(), name="mixed", Brain=brain_lightning.Brain)


def forget_mutable_defaults() -> None:
    """Put SpeechBrain's default arguments back to what they are in a new process.

    ``save_and_keep_only`` appends to its default list, so that a later call, of any Checkpointer,
    keeps more checkpoints and reads each of them once for every earlier call; ``evaluate`` writes
    into its default dictionary. Without this a scenario depends on those before it.
    """
    import speechbrain
    from speechbrain.utils.checkpoints import Checkpointer

    for value in Checkpointer.save_and_keep_only.__defaults__ or ():
        if isinstance(value, list):
            value.clear()
    for value in speechbrain.Brain.evaluate.__defaults__ or ():
        if isinstance(value, dict):
            value.clear()


LIBRARIES: dict[str, Callable[[], Library]] = {
    "speechbrain": speechbrain_library,
    "brain_lightning": our_library,
    "mixed": mixed_library,
}
