"""Whether an entry of ``modules`` has something to train, as far as its source tells."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from brain_lightning.entry.doctor.hyperparameter_nodes import HyperparameterNodes, NamedObject
from brain_lightning.entry.doctor.recipe_uses import Construction
from brain_lightning.entry.doctor.source_files import ClassFound, Meaning, SourceTree, dotted

_PARAMETERS = frozenset({"Parameter", "UninitializedParameter"})
_ELSEWHERE = frozenset({"from_pretrained", "from_hparams"})
"""Functions that make modules whose classes nobody names."""


def entries_of_modules(
    nodes: HyperparameterNodes | None, made: list[Construction]
) -> dict[str, NamedObject]:
    """Map entries of ``modules`` to what makes them, where the file or the call says that."""
    found: dict[str, NamedObject] = {}
    in_file = nodes.value("modules") if nodes is not None and "modules" in nodes.top else None
    for given in (in_file, *(each.arguments.get("modules") for each in made)):
        if isinstance(given, dict):
            found |= {key: each for key, each in given.items() if isinstance(each, NamedObject)}
    return found


def trains(made_by: NamedObject | None, tree: SourceTree) -> bool | None:
    """Tell whether a module has parameters to train; None where its source does not tell."""
    if made_by is None or made_by.tag != "new" or any(map(_freezes, made_by.arguments)):
        return None
    found = tree.class_named(made_by.name)
    return None if found is None else _has_parameters(found, tree)


def _has_parameters(found: ClassFound, tree: SourceTree) -> bool | None:
    """Whether a class, or one that it is or makes, or is given by default, has parameters."""
    seen: set[Meaning] = set()
    pending, is_open = [found], False
    while pending:
        each = pending.pop()
        called = set(_names_called(each))
        is_open |= not called.isdisjoint(_ELSEWHERE) or _freezes_by_default(each)
        if not called.isdisjoint(_PARAMETERS):
            return None if is_open else True
        for meaning in _classes_named(each, tree):
            if meaning not in seen:
                seen.add(meaning)
                inside = tree.installed_class(meaning) if isinstance(meaning, str) else meaning
                pending += [] if inside is None else [inside]
    return None if is_open else False


def _freezes(argument: str) -> bool:
    return "freeze" in argument


def _functions(found: ClassFound) -> Iterator[ast.FunctionDef]:
    return (node for node in ast.walk(found.definition) if isinstance(node, ast.FunctionDef))


def _freezes_by_default(found: ClassFound) -> bool:
    """Whether the constructor has a parameter such as ``freeze=True``."""
    for function in _functions(found):
        if function.name != "__init__":
            continue
        given = function.args
        positional = [*given.posonlyargs, *given.args]
        defaults = zip(reversed(positional), reversed(given.defaults), strict=False)
        for argument, default in [
            *defaults,
            *zip(given.kwonlyargs, given.kw_defaults, strict=True),
        ]:
            is_off = isinstance(default, ast.Constant) and default.value in (False, None)
            if _freezes(argument.arg) and default is not None and not is_off:
                return True
    return False


def _names_called(found: ClassFound) -> Iterator[str]:
    for node in ast.walk(found.definition):
        if isinstance(node, ast.Call):
            yield (dotted(node.func) or ("",))[-1]


def _classes_named(found: ClassFound, tree: SourceTree) -> Iterator[Meaning]:
    """Yield what may be the classes of modules; annotations name others."""
    named = [*found.definition.bases]
    for node in ast.walk(found.definition):
        if isinstance(node, ast.Call) and dotted(node.func) != ("isinstance",):
            named += [node.func, *node.args, *(each.value for each in node.keywords)]
    for function in _functions(found):
        named += [*function.args.defaults, *filter(None, function.args.kw_defaults)]
    for each in named:
        parts = dotted(each)
        # Of torch's Module everything is one, and it is none itself.
        if (
            parts
            and parts[-1].lstrip("_")[:1].isupper()
            and parts[-1] != "Module"
            and parts[0] != "self"
        ):
            meaning = tree.meaning(each, found.file)
            if meaning is not None:
                yield meaning
