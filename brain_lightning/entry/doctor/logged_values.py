"""The names of the values that a recipe logs, which callbacks can monitor."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from brain_lightning.entry.doctor.brain_classes import BrainClass
from brain_lightning.entry.doctor.dictionary_keys import keys_of
from brain_lightning.entry.doctor.recipe_uses import called_name
from brain_lightning.entry.doctor.source_files import SourceFile, SourceTree
from brain_lightning.parts.recipe_rules.logged_names import AXES

_SAVING = ("save_and_keep_only", "save_checkpoint")
_STATS = ("stats_meta", "train_stats", "valid_stats", "test_stats")
"""The parameters of ``log_stats``."""


@dataclass
class LoggedValues:
    """Names, and whether there may be more."""

    names: set[str] = field(default_factory=set)
    may_have_more: bool = False
    """Whether some are computed, or logged where the source was not read."""


def logged_values(tree: SourceTree, brains: Iterable[BrainClass]) -> LoggedValues:
    """Return what the files of a recipe log: meta of checkpoints, train logs, ``log``."""
    found = LoggedValues()
    elsewhere = [each for brain in brains for each in brain.lineage if each.file not in tree.files]
    found.may_have_more = bool(elsewhere)
    for source in tree.files:
        for node in ast.walk(source.tree):
            for name in _logged_by(node, source, tree):
                if name is None:
                    found.may_have_more = True
                elif name not in AXES:
                    found.names.add(name)
    return found


def _logged_by(node: ast.AST, source: SourceFile, tree: SourceTree) -> Iterator[str | None]:
    if isinstance(node, ast.Attribute) and node.attr == "callback_metrics":
        yield None  # it may write there
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return
    called = called_name(node)
    if called in _SAVING:
        yield from _saved(node, source, tree)
    elif called == "log_stats":
        yield from _in_the_train_log(node, source, tree)
    elif called == "log_dict" and node.args:
        yield from keys_of(node.args[0], source, tree)
    elif called == "log" and _is_of_an_object(node.func, source):
        yield from _logged(node)


def _saved(node: ast.Call, source: SourceFile, tree: SourceTree) -> Iterator[str | None]:
    if any(keyword.arg is None for keyword in node.keywords):
        yield None
    given = [keyword.value for keyword in node.keywords if keyword.arg == "meta"]
    for value in given or node.args[:1]:
        yield from keys_of(value, source, tree)


def _in_the_train_log(node: ast.Call, source: SourceFile, tree: SourceTree) -> Iterator[str | None]:
    given: dict[str | None, ast.expr] = dict(zip(_STATS, node.args, strict=False))
    given |= {each.arg: each.value for each in node.keywords}
    of_a_test = "test_stats" in given and not {None, "train_stats", "valid_stats"} & given.keys()
    for name, value in given.items():
        if name is None:
            yield None
        elif name in _STATS and not (of_a_test and name == "stats_meta"):
            prefix = "" if name == "stats_meta" else name.removesuffix("stats")
            for key in keys_of(value, source, tree):
                yield None if key is None else f"{prefix}{key}"


def _is_of_an_object(function: ast.Attribute, source: SourceFile) -> bool:
    """Whether it is no function of a module, as ``math.log`` is."""
    owner = function.value
    return not (isinstance(owner, ast.Name) and owner.id in source.imports)


def _logged(node: ast.Call) -> Iterator[str | None]:
    """Yield the names of ``brain.log(name, value)``; a tensor's ``log()`` has no arguments."""
    named = [each.value for each in node.keywords if each.arg == "name"]
    if len(node.args) + len(node.keywords) < 2:
        return
    for each in named or node.args[:1]:
        name = each.value if isinstance(each, ast.Constant) else None
        if isinstance(name, str):
            yield name
            if any(keyword.arg in ("on_step", "on_epoch") for keyword in node.keywords):
                yield from (f"{name}_step", f"{name}_epoch")
        else:
            yield None
