"""Every name of torch that is not public and that we use anyway, each with its reason.

Tried with torch 2.13. They are attributes that are read, and one that is set on a copy of ours.
Those of Lightning are in ``engine/lightning_internals.py``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch

COMPILED = "_orig_mod"
"""The child of what ``torch.compile`` returns, and so a part of the names of its parameters. There
is no public way from the one to the other."""


def is_compiled(module: object) -> bool:
    """Tell whether a module is what ``torch.compile`` returned.

    Asks for no attribute by its name: a compiled module passes such questions on.
    """
    return isinstance(module, torch.nn.Module) and any(
        name == COMPILED for name, _ in module.named_children()
    )


def buffers_left_out(module: torch.nn.Module) -> Collection[str]:
    """Return the names of a module's own buffers that its ``state_dict`` leaves out.

    ``register_buffer(persistent=False)`` is the only public word on it, and a module's own
    ``state_dict()`` may be anything. Name: ``_non_persistent_buffers_set``.
    """
    names: Collection[str] = getattr(module, "_non_persistent_buffers_set", ())
    return names


def give_versions(copy: Any, state: Mapping[Any, Any]) -> Any:
    """Give a copy of a module's ``state_dict`` the versions that stand beside the values in it.

    They decide how older states are loaded. Returns a mapping of the state's kind, as only one
    that allows attributes can have them; the copy itself where the state has none. Name:
    ``_metadata``.
    """
    versions = getattr(state, "_metadata", None)
    if versions is None:
        return copy
    kind: Any = type(state)
    versioned = kind(copy)
    versioned._metadata = versions
    return versioned
