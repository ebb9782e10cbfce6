"""The options of one run."""

from __future__ import annotations

import difflib
import sys
from collections.abc import ItemsView, Iterator, KeysView, Mapping, Sequence, ValuesView
from dataclasses import dataclass
from typing import Any

from brain_lightning.parts.options.declarations import (
    Declarations,
    default_of,
    is_speechbrain_option,
    option_fields,
)
from brain_lightning.parts.options.parser import parse
from brain_lightning.parts.options.replaced_defaults import replaced_values


class UnknownOptionError(KeyError, AttributeError):
    """There is no option of that name; a dict would raise the one, SpeechBrain the other."""

    def __str__(self) -> str:
        """Return the sentence itself, where KeyError would put it in quotes."""
        return str(self.args[0])


@dataclass(frozen=True)
class RunOptions(Declarations):
    """Options of a run: a frozen dataclass that can also be read like a dict.

    ``[]``, ``get`` and ``in`` know every option. What lists options (iteration, ``keys``,
    ``items``, ``values``, ``as_dict``) lists SpeechBrain's and, of the others, those that were
    given: recipes put all that is listed into their hyperparameters.

    ``overridden_args`` names the options that were given explicitly. As in SpeechBrain, Brain
    goes by it, and the constructor does not fill it: make options with ``from_dictionary``.
    """

    def __post_init__(self) -> None:
        """Take the defaults that hold in place of ours, where nothing else was given."""
        for name, value in replaced_values().items():
            usual = default_of(option_fields()[name])
            if name not in self.overridden_args and getattr(self, name) == usual:
                object.__setattr__(self, name, value)

    @classmethod
    def from_dictionary(cls, args_dict: Mapping[str, Any]) -> RunOptions:
        """Return options with the given values, all of them explicitly given.

        Raises:
            TypeError: a key is no option.
        """
        for name in args_dict:
            if name not in option_fields():
                raise TypeError(unknown_option_message(name))
        return cls(**{**args_dict, "overridden_args": set(args_dict)})

    @classmethod
    def from_command_line_args(
        cls, arg_list: Sequence[str] | None = None, defaults: Mapping[str, Any] | None = None
    ) -> tuple[str, RunOptions, str]:
        """Parse command-line arguments; see ``parse_arguments``."""
        parsed = parse(sys.argv[1:] if arg_list is None else arg_list, defaults)
        run_opts = cls(**{**parsed.values, "overridden_args": parsed.given})
        return run_opts.param_file, run_opts, parsed.overrides

    def as_dict(self) -> dict[str, Any]:
        """Return the listed options as a dict that shares nothing with this object."""
        return {
            name: _without_sharing(getattr(self, name))
            for name in option_fields()
            if self._is_listed(name)
        }

    def _is_listed(self, name: str) -> bool:
        return is_speechbrain_option(name) or name in self.overridden_args

    def __getitem__(self, key: str) -> Any:
        """Return the value of an option."""
        if key not in self:
            raise UnknownOptionError(unknown_option_message(key))
        return getattr(self, key)

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of an option, or ``default`` when there is none of that name."""
        return getattr(self, key) if key in self else default

    def __contains__(self, key: object) -> bool:
        """Tell whether there is an option of that name."""
        return key in option_fields()

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the listed options."""
        return iter(self.as_dict())

    def keys(self) -> KeysView[str]:
        """Return the names of the listed options."""
        return self.as_dict().keys()

    def values(self) -> ValuesView[Any]:
        """Return the values of the listed options."""
        return self.as_dict().values()

    def items(self) -> ItemsView[str, Any]:
        """Return names and values of the listed options."""
        return self.as_dict().items()


def _without_sharing(value: Any) -> Any:
    """Copy containers, but not what they hold: a callback is one object, and cannot be two."""
    if isinstance(value, dict):
        return {key: _without_sharing(below) for key, below in value.items()}
    if isinstance(value, list):
        return [_without_sharing(below) for below in value]
    return set(value) if isinstance(value, set) else value


def unknown_option_message(name: object) -> str:
    """Say that there is no such option, and which one may have been meant."""
    near = difflib.get_close_matches(str(name), option_fields(), n=1)
    advice = (
        f"Did you mean {near[0]!r}?"
        if near
        else "Run a recipe with --help for the list of options."
    )
    return f"{name!r} is not a run option. {advice}"
