"""Whether SpeechBrain is installed, and the defaults that it has."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Mapping
from typing import Any

from brain_lightning.parts.options.declarations import default_values, option_fields


def is_speechbrain_installed() -> bool:
    """Tell whether SpeechBrain can be imported, without importing it."""
    return importlib.util.find_spec("speechbrain") is not None


def installed_option_defaults() -> Mapping[str, Any]:
    """Return the defaults of the installed SpeechBrain, where they are not ours."""
    ours = default_values()
    return {
        name: value
        for name, value in _speechbrain_defaults().items()
        if name in option_fields() and value != ours[name]
    }


def _speechbrain_defaults() -> Mapping[str, Any]:
    try:
        run_opts = importlib.import_module("speechbrain.utils.run_opts")
    except ModuleNotFoundError:  # SpeechBrain 1.0
        defaults = dict(importlib.import_module("speechbrain.core").run_opt_defaults)
        # It says cpu, but its parser gives a GPU; ours finds one where there is one.
        defaults.pop("device", None)
        return defaults
    return {
        field.name: field.default
        for field in dataclasses.fields(run_opts.RunOptions)
        if field.default is not dataclasses.MISSING
    }
