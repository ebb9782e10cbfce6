"""The keys of a dictionary in a recipe's source, wherever they are put into it."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from brain_lightning.entry.doctor.recipe_uses import called_name
from brain_lightning.entry.doctor.source_files import SourceFile, SourceTree

_COPYING = ("copy", "deepcopy", "dict")
_LEAVING_ALONE = frozenset(
    {
        *_COPYING,
        "float",
        "info",
        "isinstance",
        "items",
        "len",
        "log_stats",
        "print",
        "save_and_keep_only",
        "save_checkpoint",
        "str",
    }
)
"""What may get a dictionary and puts nothing into it."""


def keys_of(node: ast.expr, source: SourceFile, tree: SourceTree) -> Iterator[str | None]:
    """Yield the keys that a dictionary may have; None once for each that only running would tell.

    Args:
        node: the expression that is the dictionary.
        source: the file that it stands in.
        tree: all files, where attributes are looked for.
    """
    return _Keys(tree).of(node, source)


class _Keys:
    """Follows variables and attributes, each once."""

    def __init__(self, tree: SourceTree) -> None:
        self._tree = tree
        self._seen: set[str] = set()

    def of(self, node: ast.expr, source: SourceFile) -> Iterator[str | None]:
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if key is None:
                    yield from self.of(value, source)
                else:
                    yield _constant(key)
        elif isinstance(node, ast.Call):
            yield from self._of_call(node, source)
        elif isinstance(node, (ast.Name, ast.Attribute)):
            yield from self._of_variable(node, source)
        elif not (isinstance(node, ast.Constant) and node.value is None):
            parts = _parts(node)
            yield from (key for part in parts for key in self.of(part, source))
            if not parts:
                yield None

    def _of_call(self, node: ast.Call, source: SourceFile) -> Iterator[str | None]:
        called = called_name(node)
        if called not in _COPYING:
            yield None
            return
        owner = [node.func.value] if isinstance(node.func, ast.Attribute) else []
        for each in node.args or (owner if called == "copy" else []):
            yield from self.of(each, source)
        for keyword in node.keywords:
            if keyword.arg is None:
                yield from self.of(keyword.value, source)
            else:
                yield keyword.arg

    def _of_variable(
        self, node: ast.Name | ast.Attribute, source: SourceFile
    ) -> Iterator[str | None]:
        name = _name(node)
        if name in self._seen:
            return
        self._seen.add(name)
        files = self._tree.files if isinstance(node, ast.Attribute) else [source]
        count = 0
        for file in files:
            for each in ast.walk(file.tree):
                for key in self._put_in(each, name, file):
                    count += 1
                    if key is not _NO_KEY:
                        yield key
        if count == 0:
            yield None  # it comes from elsewhere

    def _put_in(self, node: ast.AST, name: str, source: SourceFile) -> Iterator[str | None]:
        """Yield what one statement or call puts into a variable; ``_NO_KEY`` if that is nothing."""
        if isinstance(node, (ast.Assign, ast.AnnAssign, ast.NamedExpr)) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                yield from self._assigned(target, node.value, name, source)
        elif isinstance(node, ast.AugAssign) and _name(node.target) == name:
            yield from self.of(node.value, source)
        elif isinstance(node, ast.Call):
            yield from self._handed_to(node, name, source)
        elif _is_given_elsewhere(node, name):
            yield None

    def _assigned(
        self, target: ast.expr, value: ast.expr, name: str, source: SourceFile
    ) -> Iterator[str | None]:
        if _name(target) == name:
            yield _NO_KEY
            yield from self.of(value, source)
        elif isinstance(target, ast.Subscript) and _name(target.value) == name:
            yield _constant(target.slice)
        elif _stores(target, name):
            yield None

    def _handed_to(self, node: ast.Call, name: str, source: SourceFile) -> Iterator[str | None]:
        called = called_name(node)
        if isinstance(node.func, ast.Attribute) and _name(node.func.value) == name:
            if called == "update":
                for given in [*node.args, *(each.value for each in node.keywords if not each.arg)]:
                    yield from self.of(given, source)
                yield from (each.arg for each in node.keywords if each.arg)
            elif called == "setdefault" and node.args:
                yield _constant(node.args[0])
        elif called not in _LEAVING_ALONE and any(_name(each) == name for each in node.args):
            yield None


_NO_KEY = "\0"
"""Says that a variable is assigned, whatever its keys."""


def _name(node: ast.AST) -> str:
    """Return a variable's name, or an attribute's with a dot: attributes of all objects are one."""
    if isinstance(node, ast.Name):
        return node.id
    return f".{node.attr}" if isinstance(node, ast.Attribute) else ""


def _stores(node: ast.expr, name: str) -> bool:
    return any(
        _name(each) == name and isinstance(getattr(each, "ctx", None), ast.Store)
        for each in ast.walk(node)
    )


def _is_given_elsewhere(node: ast.AST, name: str) -> bool:
    """Whether a variable is a parameter, or comes from a loop or a context."""
    if isinstance(node, ast.arg):
        return node.arg == name
    target: ast.expr | None = None
    if isinstance(node, (ast.For, ast.comprehension)):
        target = node.target
    elif isinstance(node, ast.withitem):
        target = node.optional_vars
    return target is not None and _stores(target, name)


def _constant(node: ast.expr) -> str | None:
    value = node.value if isinstance(node, ast.Constant) else None
    return value if isinstance(value, str) else None


def _parts(node: ast.expr) -> list[ast.expr]:
    """Return the dictionaries of which an expression is one, or all."""
    if isinstance(node, ast.IfExp):
        return [node.body, node.orelse]
    if isinstance(node, ast.BoolOp):
        return node.values
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return [node.left, node.right]
    return []
