"""The Brain classes of a recipe, with what they inherit from one another."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from brain_lightning.entry.doctor.brain_interface import BRAIN_NAMES
from brain_lightning.entry.doctor.findings import Place
from brain_lightning.entry.doctor.source_files import ClassFound, SourceFile, SourceTree

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Member:
    """A method or attribute that a class body defines."""

    place: Place
    function: Function | None
    """None for what is assigned: ``fit_batch = other_function``."""


@dataclass(frozen=True, eq=False)
class BrainClass:
    """A subclass of Brain, anywhere in the recipe's files."""

    name: str
    place: Place
    is_ours: bool
    """Whether the Brain that it extends was imported from brain_lightning."""
    lineage: tuple[ClassFound, ...]
    """The class and those that it inherits from, up to Brain, in the order of inheritance."""
    members: dict[str, Member]
    """Everything that the lineage defines."""

    def functions(self) -> Iterator[tuple[SourceFile, Function]]:
        """Yield the methods that the lineage defines and that are not replaced in it."""
        for found in self.lineage:
            for name, member in class_members(found).items():
                if member.function is not None and self.members[name] == member:
                    yield found.file, member.function


def brain_classes(tree: SourceTree) -> list[BrainClass]:
    """Return the subclasses of Brain that a recipe defines, without mere base classes."""
    found = [
        brain
        for source in tree.files
        for definition in source.classes.values()
        if (brain := brain_class(ClassFound(source, definition), tree)) is not None
    ]
    bases = {each.definition for brain in found for each in brain.lineage[1:]}
    named = set(_names_outside_of_bases(tree))
    return [
        brain for brain in found if brain.lineage[0].definition not in bases or brain.name in named
    ]


def brain_class(found: ClassFound, tree: SourceTree) -> BrainClass | None:
    """Return a class as a Brain class, None if it is none."""
    roots: list[str] = []
    lineage = tuple(_lineage(found, tree, roots, ()))
    if not roots:
        return None
    members: dict[str, Member] = {}
    for each in lineage:
        for name, member in class_members(each).items():
            members.setdefault(name, member)
    definition = found.definition
    return BrainClass(
        definition.name,
        found.file.place(definition),
        any(root.startswith("brain_lightning") for root in roots),
        lineage,
        members,
    )


def _lineage(
    found: ClassFound, tree: SourceTree, roots: list[str], above: tuple[ast.ClassDef, ...]
) -> Iterator[ClassFound]:
    """Yield the class and its bases; a name of Brain that is reached goes into ``roots``."""
    if found.definition in above:
        return
    yield found
    for base in found.definition.bases:
        meaning = tree.meaning(base, found.file)
        if isinstance(meaning, str):
            if meaning in BRAIN_NAMES:
                roots.append(meaning)
                continue
            # A package may have Brains of its own, as SpeechBrain's integrations do.
            meaning = tree.installed_class(meaning) if "." in meaning else None
        if meaning is not None:
            yield from _lineage(meaning, tree, roots, (*above, found.definition))


def class_members(found: ClassFound) -> dict[str, Member]:
    """Return what the body of one class defines."""
    members: dict[str, Member] = {}
    for statement in _flat(found.definition.body):
        place = found.file.place(statement)
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
            members[statement.name] = Member(place, statement)
        for target in _targets(statement):
            if isinstance(target, ast.Name):
                members[target.id] = Member(place, None)
    return members


def _targets(statement: ast.stmt) -> list[ast.expr]:
    if isinstance(statement, ast.Assign):
        return statement.targets
    if isinstance(statement, ast.AnnAssign) and statement.value is not None:
        return [statement.target]
    return []


def _flat(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in body:
        yield statement
        if isinstance(statement, (ast.If, ast.Try, ast.With)):
            for name in ("body", "orelse", "finalbody"):
                yield from _flat(getattr(statement, name, []))


def _names_outside_of_bases(tree: SourceTree) -> Iterator[str]:
    for source in tree.files:
        in_bases = {
            id(node)
            for definition in source.classes.values()
            for base in definition.bases
            for node in ast.walk(base)
        }
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Name) and id(node) not in in_bases:
                yield node.id
            elif isinstance(node, ast.Attribute) and id(node) not in in_bases:
                yield node.attr
