"""What the Python of a recipe does with Brain, torch.distributed and optimizers."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Set
from dataclasses import dataclass, field
from typing import Any

from brain_lightning.entry.doctor.brain_classes import BrainClass, Function, brain_class
from brain_lightning.entry.doctor.brain_interface import ATTRIBUTES, BRAIN_NAMES, LOOP, METHODS
from brain_lightning.entry.doctor.findings import Place
from brain_lightning.entry.doctor.hyperparameter_nodes import NamedObject
from brain_lightning.entry.doctor.source_files import ClassFound, SourceFile, SourceTree
from brain_lightning.parts.options.declarations import option_fields

_CONNECTING = ("ddp_init_group", "init_process_group")


@dataclass
class ClassUses:
    """What the methods of one Brain class do."""

    reads: set[str] = field(default_factory=set)
    writes: set[str] = field(default_factory=set)
    backward: list[Place] = field(default_factory=list)
    """Where ``.backward(...)`` is called."""
    replaced_on_objects: dict[str, Place] = field(default_factory=dict)
    """Methods of Brain that are assigned to an object: ``brain.fit_batch = ...``."""
    missing: list[Place] = field(default_factory=list)
    """Where ``_fit_train`` is called, which is SpeechBrain's loop."""
    optimizers: int | None = None
    """How many optimizers ``init_optimizers`` makes, where it can be counted."""


@dataclass
class Construction:
    """One call that makes a Brain."""

    place: Place
    arguments: dict[str, Any]


@dataclass
class RecipeUses:
    """What the recipe does outside of its Brain classes, or in any of them."""

    connects: bool = False
    constructions: dict[str, list[Construction]] = field(default_factory=dict)
    """Name of a Brain class -> the calls that make one; "Brain" for Brain itself."""
    early_optimizers: list[Place] = field(default_factory=list)
    """Where the script makes an optimizer itself, outside of functions that Brain calls."""
    distributed: dict[str, Place] = field(default_factory=dict)
    """What is used of torch.distributed, and where first."""
    patched: dict[str, dict[str, Place]] = field(default_factory=dict)
    """Name of a Brain class -> methods that the script puts on it or on an object of it.

    What is put on Brain itself, and so is in every class, has no name: "".
    """
    imported: dict[str, Place] = field(default_factory=dict)
    """Dotted names of SpeechBrain's that the files use, and where first."""
    fits: bool = False
    fitted: set[str] = field(default_factory=set)
    """Names of the Brain classes that ``fit`` is called on; "" for an object of an unknown one."""
    validates: bool = False

    def trains(self, name: str) -> bool:
        """Whether a Brain class may be trained, and does not only infer beside one that is."""
        return not self.fits or not self.fitted.isdisjoint({name, ""})


def class_uses(brain: BrainClass) -> ClassUses:
    """Read the methods of a Brain class and of those that it inherits from in the recipe."""
    uses = ClassUses()
    known = ATTRIBUTES | METHODS | option_fields().keys()
    for source, function in brain.functions():
        for node in ast.walk(function):
            if isinstance(node, ast.Attribute):
                _note_attribute(uses, node, source, self_name(function), known)
            if isinstance(node, ast.Call) and called_name(node) == "backward":
                uses.backward.append(source.place(node))
    uses.reads -= {LOOP}
    member = brain.members.get("init_optimizers")
    if member is not None and member.function is not None:
        uses.optimizers = _count_optimizers(member.function)
    return uses


def _note_attribute(
    uses: ClassUses, node: ast.Attribute, source: SourceFile, self_name: str, known: Set[str]
) -> None:
    owner = node.value
    of_super = isinstance(owner, ast.Call) and called_name(owner) == "super"
    if node.attr == LOOP and (of_super or _is_name(owner, self_name)):
        uses.missing.append(source.place(node))
    if not _is_name(owner, self_name) or node.attr not in known:
        return
    if isinstance(node.ctx, ast.Load):
        uses.reads.add(node.attr)
    else:
        uses.writes.add(node.attr)
        if node.attr in METHODS:
            uses.replaced_on_objects.setdefault(node.attr, source.place(node))


def self_name(function: Function) -> str:
    """Return the name that a method has for its object, "" for none."""
    arguments = [*function.args.posonlyargs, *function.args.args]
    return arguments[0].arg if arguments else ""


def _is_name(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def called_name(node: ast.Call) -> str:
    """Return the last name of what is called, "" where it has none."""
    function = node.func
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _count_optimizers(function: Function) -> int | None:
    """Count those of ``optimizers_dict``, or the attributes that are made by an optimizer class."""
    made: set[str] = set()
    listed: set[str] = set()
    for node in ast.walk(function):
        if not isinstance(node, ast.Assign):
            continue
        for target in node.targets:
            listed |= set(_listed_optimizers(target, node.value))
            is_made = isinstance(node.value, ast.Call) and "opt" in called_name(node.value).lower()
            if isinstance(target, ast.Attribute) and is_made:
                made.add(target.attr)
    return len(listed) or len(made) or None


def _listed_optimizers(target: ast.expr, value: ast.expr) -> Iterator[str]:
    """Yield the keys that ``optimizers_dict = {...}`` or ``optimizers_dict[...] = `` puts there."""
    owner = target.value if isinstance(target, ast.Subscript) else target
    if not isinstance(owner, ast.Attribute) or owner.attr != "optimizers_dict":
        return
    if isinstance(target, ast.Subscript):
        yield ast.dump(target.slice)
    elif isinstance(value, ast.Dict):
        yield from (ast.dump(key) for key in value.keys if key is not None)


def recipe_uses(tree: SourceTree) -> RecipeUses:
    """Read everything else in the files of a recipe."""
    uses = RecipeUses()
    for source in tree.files:
        _note_patches(uses, source, tree)
        uses.fitted |= set(_fitted_classes(source, tree))
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Call):
                _note_call(uses, node, source, tree)
            if isinstance(node, (ast.Attribute, ast.Name)) and isinstance(node.ctx, ast.Load):
                _note_name(uses, node, source, tree)
    for node in _run_by_the_script(tree.script.tree.body):
        name = tree.meaning(node.func, tree.script)
        if isinstance(name, str) and is_optimizer(name):
            uses.early_optimizers.append(tree.script.place(node))
    return uses


def _note_call(uses: RecipeUses, node: ast.Call, source: SourceFile, tree: SourceTree) -> None:
    called = called_name(node)
    if called in _CONNECTING:
        uses.connects = True
    elif called == "fit":
        uses.fits = True
        names = {keyword.arg for keyword in node.keywords}
        uses.validates |= len(node.args) >= 3 or not names.isdisjoint({"valid_set", "datamodule"})
    name = _brain_name(node.func, source, tree)
    if name is not None:
        made = Construction(source.place(node), _arguments(node, source, tree))
        uses.constructions.setdefault(name, []).append(made)


def _fitted_classes(source: SourceFile, tree: SourceTree) -> Iterator[str]:
    """Yield the class of each object that ``fit`` is called on, "" where it cannot be told."""
    made = _variables_of_brains(source, tree)
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Call) or called_name(node) != "fit":
            continue
        owner = node.func.value if isinstance(node.func, ast.Attribute) else node.func
        if isinstance(owner, ast.Name):
            yield from made.get(owner.id, {""})
        else:
            yield ""


def _variables_of_brains(source: SourceFile, tree: SourceTree) -> dict[str, set[str]]:
    """Map variables to the Brain classes that make them; "" among them for anything else."""
    made: dict[str, set[str]] = {}
    for node in ast.walk(source.tree):
        if isinstance(node, ast.arg):
            made.setdefault(node.arg, set()).add("")
        if isinstance(node, ast.Assign):
            call = node.value.func if isinstance(node.value, ast.Call) else None
            name = None if call is None else _brain_name(call, source, tree)
            for target in node.targets:
                if isinstance(target, ast.Name):
                    made.setdefault(target.id, set()).add(name or "")
    return made


def _brain_name(node: ast.expr, source: SourceFile, tree: SourceTree) -> str | None:
    meaning = tree.meaning(node, source)
    if isinstance(meaning, ClassFound):
        return meaning.definition.name if brain_class(meaning, tree) is not None else None
    return "Brain" if meaning in BRAIN_NAMES else None


def _note_name(
    uses: RecipeUses, node: ast.Attribute | ast.Name, source: SourceFile, tree: SourceTree
) -> None:
    name = tree.meaning(node, source)
    if not isinstance(name, str) or "." not in name:
        return
    if name.startswith("torch.distributed."):
        uses.distributed.setdefault(name, source.place(node))
    elif name.startswith("speechbrain."):
        uses.imported.setdefault(name, source.place(node))


def _note_patches(uses: RecipeUses, source: SourceFile, tree: SourceTree) -> None:
    """Note ``brain.fit_batch = ...`` and ``MyBrain.fit_batch = ...``."""
    assigned = [node for node in ast.walk(source.tree) if isinstance(node, ast.Assign)]
    owners = {name: name for name in source.classes}
    for node in assigned:
        made = (
            _brain_name(node.value.func, source, tree) if isinstance(node.value, ast.Call) else None
        )
        for target in node.targets:
            if made is not None and isinstance(target, ast.Name):
                owners[target.id] = made
    for node in assigned:
        for target in node.targets:
            if not isinstance(target, ast.Attribute) or target.attr not in {*METHODS, LOOP}:
                continue
            owner = target.value.id if isinstance(target.value, ast.Name) else ""
            of_brain = tree.meaning(target.value, source) in BRAIN_NAMES
            if owner in owners or of_brain:
                of_class = uses.patched.setdefault("" if of_brain else owners[owner], {})
                of_class.setdefault(target.attr, source.place(node))


def is_optimizer(name: str) -> bool:
    """Whether a dotted name is that of an optimizer class of torch's."""
    parts = name.split(".")
    return parts[:2] == ["torch", "optim"] and len(parts) == 3 and parts[2][:1].isupper()


def _run_by_the_script(body: list[ast.stmt]) -> Iterator[ast.Call]:
    """Yield the calls that the script makes itself; what a lambda or a def holds, it does not."""
    pending: list[ast.AST] = list(body)
    while pending:
        node = pending.pop()
        is_main = isinstance(node, ast.FunctionDef) and node.name == "main"
        if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Lambda)) and not is_main:
            continue
        if isinstance(node, ast.Call):
            yield node
        pending += ast.iter_child_nodes(node)


_PARAMETERS = ("modules", "opt_class", "hparams", "run_opts", "checkpointer")


def _arguments(node: ast.Call, source: SourceFile, tree: SourceTree) -> dict[str, Any]:
    arguments = dict(zip(_PARAMETERS, node.args, strict=False))
    arguments.update({keyword.arg: keyword.value for keyword in node.keywords if keyword.arg})
    found = {name: _plain(value, source, tree) for name, value in arguments.items()}
    if any(keyword.arg is None for keyword in node.keywords):
        found["**"] = UNKNOWN
    return found


class _Unknown:
    """Stands for a value that only running the recipe would tell."""


UNKNOWN = _Unknown()


def _plain(node: ast.expr, source: SourceFile, tree: SourceTree) -> Any:
    """Return a literal's value; a call of a known name is a ``NamedObject``."""
    if isinstance(node, ast.Dict):
        return {
            key.value: _plain(value, source, tree)
            for key, value in zip(node.keys, node.values, strict=True)
            if isinstance(key, ast.Constant)
        }
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_plain(item, source, tree) for item in node.elts]
    if isinstance(node, ast.Call):
        meaning = tree.meaning(node.func, source)
        if meaning is not None:
            name = meaning if isinstance(meaning, str) else meaning.definition.name
            given = {each.arg: _text(each.value) for each in node.keywords if each.arg is not None}
            return NamedObject("new", name, source.place(node), given)
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        return UNKNOWN


def _text(node: ast.expr) -> str | None:
    value = node.value if isinstance(node, ast.Constant) else None
    return value if isinstance(value, str) else None
