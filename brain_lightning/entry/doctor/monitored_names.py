"""What callbacks are told to monitor, beside what the recipe logs."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator

from brain_lightning.entry.doctor.findings import Finding
from brain_lightning.entry.doctor.hyperparameter_nodes import NamedObject
from brain_lightning.entry.doctor.logged_values import LoggedValues
from brain_lightning.entry.doctor.source_files import SourceTree
from brain_lightning.parts.recipe_rules.logged_names import AXES

_MONITORING = frozenset({"EarlyStopping", "ModelCheckpoint"})
_LOSSES = ("train_loss", "valid_loss", "test_loss")
_LOGGED_BY_LIGHTNING = ("lr-", *(f"{name}_" for name in _LOSSES))
"""How names begin that nobody writes out: learning rates, and losses that are a dictionary."""


def unknown_monitors(
    callbacks: Iterable[NamedObject], logged: LoggedValues, tree: SourceTree
) -> Iterator[Finding]:
    """Yield a finding for each callback that monitors what nothing logs.

    Nothing is said where only running the recipe would tell.
    """
    listed = list(callbacks)
    if logged.may_have_more or any(_may_log(each, tree) for each in listed):
        return
    known = sorted({*logged.names, *_LOSSES})
    for callback in listed:
        name = callback.arguments.get("monitor")
        if name is None or name in (*known, *AXES) or name.startswith(_LOGGED_BY_LIGHTNING):
            continue
        if not _MONITORING.isdisjoint(tree.names_of_bases(callback.name)):
            near = difflib.get_close_matches(name, known, n=1)
            advice = f"Did you mean {near[0]!r}?" if near else f"There are {', '.join(known)}"
            yield Finding(
                f"the callback {callback.name.rpartition('.')[2]} monitors {name!r}, which, as "
                f"far as the source tells, nothing logs. {advice}",
                callback.place,
            )


def _may_log(callback: NamedObject, tree: SourceTree) -> bool:
    """Whether a callback is of a package whose source was not read."""
    if callback.name.startswith(("lightning.", "pytorch_lightning.")):
        return False
    found = tree.class_named(callback.name)
    return found is None or found.file not in tree.files
