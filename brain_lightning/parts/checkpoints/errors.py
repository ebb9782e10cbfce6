"""What can go wrong with a checkpoint, as error classes."""

from __future__ import annotations


class CheckpointError(RuntimeError):
    """A checkpoint cannot be saved, found or loaded; the message names the file."""


class CheckpointStorageError(OSError, CheckpointError):
    """The file system refused: a full disk, a read-only folder, a file that cannot be read."""


class DamagedCheckpointError(CheckpointError):
    """The files of a checkpoint are not what was saved."""


class MissingParametersError(CheckpointError, KeyError):
    """A checkpoint has no file for a recoverable (in SpeechBrain a KeyError, or RuntimeError)."""

    __str__ = CheckpointError.__str__  # KeyError's would show the message in quotes


class RecoverablesTypeError(TypeError, AttributeError):
    """Recoverables were given in another form than a mapping (an AttributeError in SpeechBrain)."""


def as_checkpoint_error(message: str, cause: BaseException) -> CheckpointError:
    """Make the error that says ``message`` and then what ``cause`` says, of the class that fits."""
    text = f"{message}: {type(cause).__name__}: {cause}"
    if isinstance(cause, DamagedCheckpointError):
        return DamagedCheckpointError(text)
    if not isinstance(cause, OSError):
        return CheckpointError(text)
    if cause.errno is None:
        return CheckpointStorageError(text)
    return CheckpointStorageError(cause.errno, text)


def with_advice(error: CheckpointError, advice: str) -> CheckpointError:
    """Make an error of the same class that says the same and then ``advice``."""
    text = str(error)
    advised = type(error)(f"{text}{'' if text.endswith('.') else '.'} {advice}")
    if isinstance(error, OSError) and isinstance(advised, OSError):
        advised.errno = error.errno
    return advised
