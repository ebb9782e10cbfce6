"""Where a Brain class goes around the wrapper that DDP puts around an entry of ``modules``."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator, Set
from dataclasses import dataclass, field

from brain_lightning.entry.doctor.brain_classes import BrainClass, Function, class_members
from brain_lightning.entry.doctor.findings import Place
from brain_lightning.entry.doctor.recipe_uses import self_name
from brain_lightning.entry.doctor.source_files import SourceFile, SourceTree

_OF_A_BATCH = ("compute_forward", "compute_objectives", "fit_batch")
_BEFORE_WRAPPING = ("__init__", "_compile", "_wrap_distributed", "on_fit_start")
_WRAPPER = "torch.nn.parallel.DistributedDataParallel"
_TELLING = frozenset(
    {"module", "distributed_launch", "DistributedDataParallel", "DDP", "VALID", "TEST"}
)
"""Names in a condition that asks whether there is a wrapper, or whether this is training."""


@dataclass
class AroundDDP:
    """By entry of ``modules``: what is used of it that its wrapper does not do, and where."""

    missing: dict[str, dict[str, Place]] = field(default_factory=dict)
    """Entry -> what the wrapper does not have: ``.rnn``, ``[0]``."""
    unwrapped: dict[str, Place] = field(default_factory=dict)
    """Name in hparams -> where a batch goes through it: ``self.hparams.encoder(x)``.

    If it is an entry of ``modules`` too, it is the one without the wrapper.
    """


def around_ddp(brain: BrainClass, tree: SourceTree) -> AroundDDP:
    """Read the methods of a Brain class that are called after its entries have been wrapped."""
    found = AroundDDP()
    if "_wrap_distributed" in brain.members:
        return found
    functions = [_Method(source, function) for source, function in brain.functions()]
    stored = {name for each in functions for name in each.stored}
    attributes: dict[str, dict[str, Place]] = {}
    for each in functions:
        if each.function.name in _BEFORE_WRAPPING:
            continue
        for entry, attribute, place in each.attributes():
            if entry not in stored and (entry, attribute.removeprefix(".")) not in stored:
                attributes.setdefault(entry, {}).setdefault(attribute, place)
        if each.function.name in _OF_A_BATCH:
            for name, place in each.calls_of_hparams():
                found.unwrapped.setdefault(name, place)
    known = names_of_the_wrapper(tree) if attributes else frozenset()
    for entry, used in attributes.items():
        missing = {
            name: place for name, place in used.items() if name.removeprefix(".") not in known
        }
        if missing:
            found.missing[entry] = missing
    return found


def names_of_the_wrapper(tree: SourceTree) -> Set[str]:
    """Return the attributes of DDP's wrapper, which are a module's and some of its own."""
    names = {"__class__", "__dict__"}
    pending = [tree.installed_class(_WRAPPER)]
    while pending:
        each = pending.pop()
        if each is None:
            continue
        names |= class_members(each).keys() | set(_declared(each.definition))
        for node in ast.walk(each.definition):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                names |= {node.attr} if _is_name(node.value, "self") else set()
        for base in each.definition.bases:
            name = tree.meaning(base, each.file)
            pending.append(tree.installed_class(name) if isinstance(name, str) else name)
    return names


def _declared(definition: ast.ClassDef) -> Iterator[str]:
    for node in definition.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


class _Method:
    """One method, and what its names stand for."""

    def __init__(self, source: SourceFile, function: Function) -> None:
        self.function = function
        self._source = source
        self._self = self_name(function)
        self._aliases = self._entries_by_variable()
        self._asked = set(self._entries_asked_about())
        self._guarded = set(_below_conditions(function))

    def _entry(self, node: ast.AST) -> str:
        """Return the name of the entry that an expression is, "" for another one."""
        if isinstance(node, ast.Name):
            return self._aliases.get(node.id, "")
        return self._member(node, "modules")

    def _member(self, node: ast.AST, of: str) -> str:
        """Return "encoder" for ``self.modules.encoder`` and for ``self.modules["encoder"]``."""
        if isinstance(node, ast.Attribute):
            owner, name = node.value, node.attr
        elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            owner, name = node.value, str(node.slice.value)
        else:
            return ""
        if not isinstance(owner, ast.Attribute) or owner.attr != of:
            return ""
        return name if _is_name(owner.value, self._self) else ""

    def _entries_by_variable(self) -> dict[str, str]:
        """Map variables that are one entry, and nothing else in this method, to its name."""
        nodes = list(ast.walk(self.function))
        stores = Counter(
            each.id
            for each in nodes
            if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)
        )
        assigned = [
            (target.id, self._member(each.value, "modules"))
            for each in nodes
            if isinstance(each, ast.Assign)
            for target in each.targets
            if isinstance(target, ast.Name)
        ]
        return {name: entry for name, entry in assigned if entry and stores[name] == 1}

    def _entries_asked_about(self) -> Iterator[str]:
        """Yield the entries of which the method looks whether they are wrapped, or unwraps them."""
        for node in ast.walk(self.function):
            if isinstance(node, ast.Attribute) and node.attr == "module":
                yield self._entry(node.value)
            elif isinstance(node, ast.Call) and _asks(node):
                yield self._entry(node.args[0])

    @property
    def stored(self) -> Iterator[str | tuple[str, str]]:
        """The entries that the method replaces, and the attributes that it puts on one."""
        for node in ast.walk(self.function):
            if not isinstance(getattr(node, "ctx", None), (ast.Store, ast.Del)):
                continue
            entry = "" if isinstance(node, ast.Name) else self._entry(node)
            if entry:
                yield entry
            elif isinstance(node, ast.Attribute) and self._entry(node.value):
                yield self._entry(node.value), node.attr

    def attributes(self) -> Iterator[tuple[str, str, Place]]:
        """Yield the entries of which an attribute or an item is used, that, and where."""
        for node in ast.walk(self.function):
            if not isinstance(node, (ast.Attribute, ast.Subscript)):
                continue
            entry = self._entry(node.value) if isinstance(node.ctx, ast.Load) else ""
            if entry and entry not in self._asked and id(node) not in self._guarded:
                yield entry, _shown(node), self._source.place(node)

    def calls_of_hparams(self) -> Iterator[tuple[str, Place]]:
        """Yield what is called as ``self.hparams.encoder(x)``, and where."""
        for node in ast.walk(self.function):
            if isinstance(node, ast.Call) and id(node) not in self._guarded:
                entry = self._member(node.func, "hparams")
                if entry:
                    yield entry, self._source.place(node)


def _shown(node: ast.Attribute | ast.Subscript) -> str:
    if isinstance(node, ast.Attribute):
        return f".{node.attr}"
    return f"[{ast.unparse(node.slice)}]"


def _below_conditions(function: Function) -> Iterator[int]:
    """Yield the identities of the nodes that are reached only where somebody looked first."""
    for node in ast.walk(function):
        is_asked = isinstance(node, (ast.If, ast.IfExp)) and not _TELLING.isdisjoint(
            _words(node.test)
        )
        is_tried = isinstance(node, ast.Try) and any(
            each.type is None or "AttributeError" in _words(each.type) for each in node.handlers
        )
        if is_asked or is_tried:
            yield from (id(each) for each in ast.walk(node))


def _asks(node: ast.Call) -> bool:
    names = ("hasattr", "getattr", "isinstance")
    return isinstance(node.func, ast.Name) and node.func.id in names and bool(node.args)


def _words(node: ast.AST) -> Iterator[str]:
    for each in ast.walk(node):
        if isinstance(each, ast.Name):
            yield each.id
        elif isinstance(each, ast.Attribute):
            yield each.attr
        elif isinstance(each, ast.Constant):
            yield str(each.value)


def _is_name(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name
