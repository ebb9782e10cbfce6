"""What modules count outside of their ``state_dict``.

SpeechBrain's LiGRU layers draw many dropout masks at once and count in a plain attribute how many
are used: after a resume they would use the first ones again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

_Number = bool | int | float
_Counters = dict[str, dict[str, _Number]]


class ModuleCounters:
    """The numbers that are attributes of modules, and have changed since it was made."""

    def __init__(self, modules: torch.nn.Module) -> None:
        """Take down what there is before training."""
        self._before = {(name, attribute): value for name, attribute, value in _found(modules)}

    def changed(self, modules: torch.nn.Module) -> _Counters:
        """Return module's name -> attribute -> number."""
        state: _Counters = {}
        for name, attribute, value in _found(modules):
            if self._before.get((name, attribute)) != value:
                state.setdefault(name, {})[attribute] = value
        return state


def restore_counters(modules: torch.nn.Module, state: Mapping[str, Mapping[str, _Number]]) -> None:
    """Set what :meth:`ModuleCounters.changed` returned in the modules that are there."""
    present = dict(modules.named_modules())
    for name, numbers in state.items():
        for attribute, value in numbers.items() if name in present else ():
            setattr(present[name], attribute, value)


def _found(modules: torch.nn.Module) -> Iterator[tuple[str, str, _Number]]:
    for name, module in modules.named_modules():
        for attribute, value in vars(module).items():
            # `training` is the stage's; what begins with an underscore is torch's or a wrapper's.
            is_own = attribute != "training" and not attribute.startswith("_")
            if is_own and type(value) in (bool, int, float):
                yield name, attribute, value
