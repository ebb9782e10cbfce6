"""The stages of an experiment."""

from enum import Enum, auto


class Stage(Enum):
    """Where in an experiment a batch or an epoch belongs.

    Members equal SpeechBrain's members of the same name, in either direction, so that a recipe
    may mix ``import speechbrain as sb`` with ``from brain_lightning import Brain``.
    """

    TRAIN = auto()
    VALID = auto()
    TEST = auto()

    def __eq__(self, other: object) -> bool:
        """Compare by name with any enumeration called ``Stage``."""
        if self is other:
            return True
        if isinstance(other, Enum) and type(other).__name__ == "Stage":
            return self.name == other.name
        return NotImplemented

    def __hash__(self) -> int:
        """Hash as SpeechBrain's members do: by name."""
        return hash(self.name)
