"""``import brain_lightning as sb``: what is not ours is SpeechBrain's."""

from __future__ import annotations

import functools
import importlib
import sys
from types import ModuleType
from typing import Any

from typing_extensions import override

from brain_lightning.entry.interop.installation import is_speechbrain_installed
from brain_lightning.entry.interop.ours import object_at
from brain_lightning.entry.interop.replacements import OURS_WHEN_PORTED, REPLACED
from brain_lightning.ground.errors import MissingExtraError

SPEECHBRAIN_ATTRIBUTES = frozenset(
    {
        "alignment",
        "augment",
        "core",
        "dataio",
        "decoders",
        "inference",
        "integrations",
        "k2_integration",
        "lm",
        "lobes",
        "nnet",
        "pretrained",
        "processing",
        "tokenizers",
        "utils",
        "wordemb",
    }
)
"""What an installed SpeechBrain has at its top level, to name the extra when it is not there."""


def speechbrain_attribute(name: str) -> Any:
    """Return ``speechbrain.NAME``, with our names in the place of SpeechBrain's inside of it.

    Raises:
        MissingExtraError: SpeechBrain is not installed, and the name is one of its own.
        AttributeError: there is no such name.
    """
    if not is_speechbrain_installed():
        if name in SPEECHBRAIN_ATTRIBUTES:
            raise MissingExtraError(f"brain_lightning.{name}", "speechbrain")
        raise _no_attribute("brain_lightning", name)
    speechbrain = importlib.import_module("speechbrain")
    try:
        return _ported("speechbrain", name, getattr(speechbrain, name))
    except AttributeError as error:
        raise _no_attribute("brain_lightning", name) from error


class PortedModule(ModuleType):
    """A module of SpeechBrain's in which our names win."""

    def __init__(self, target: ModuleType) -> None:
        """Stand for ``target``; what it holds is looked up when it is asked for."""
        super().__init__(target.__name__, target.__doc__)
        self.__file__ = getattr(target, "__file__", None)
        self._target = target

    def __getattr__(self, name: str) -> Any:
        """Return ours where there is ours, and SpeechBrain's otherwise."""
        target = self._target
        return _ported(target.__name__, name, getattr(target, name))

    @override
    def __dir__(self) -> list[str]:
        return dir(self._target)

    @override
    def __repr__(self) -> str:
        return f"<module {self.__name__!r}, with the names of brain_lightning in it>"


def _ported(module_name: str, name: str, value: Any) -> Any:
    if isinstance(value, ModuleType):
        return _ported_module(f"{module_name}.{name}", value)
    return _ours_for(value)


def _ported_module(path: str, value: ModuleType) -> ModuleType:
    if not any(f"{module}.".startswith(f"{path}.") for module in (*REPLACED, *OURS_WHEN_PORTED)):
        return value  # nothing of ours is in there
    return _port_of(path)


@functools.cache
def _port_of(path: str) -> PortedModule:
    return PortedModule(importlib.import_module(path))


def _ours_for(value: Any) -> Any:
    """Return ours for an object of SpeechBrain's, under whatever name it was imported."""
    for table in (REPLACED, OURS_WHEN_PORTED):
        for module_name, names in table.items():
            namespace = vars(sys.modules[module_name]) if module_name in sys.modules else {}
            for name, place in names.items():
                if namespace.get(name) is value:
                    return object_at(place)
    return value


def _no_attribute(module: str, name: str) -> AttributeError:
    return AttributeError(f"module {module!r} has no attribute {name!r}")
