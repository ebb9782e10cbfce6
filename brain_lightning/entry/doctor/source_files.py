"""Python files of a recipe, parsed, and what the names in them stand for."""

from __future__ import annotations

import ast
import importlib.util
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from brain_lightning.entry.doctor.findings import Place, UnreadableFileError

_DEEPEST = 30
"""How many names may stand for one another in a row; more is a circle."""


class _Import(NamedTuple):
    """What a name was imported as: ``level`` dots, then ``parts``."""

    parts: tuple[str, ...]
    level: int


@dataclass(eq=False)
class SourceFile:
    """One parsed file."""

    path: Path
    tree: ast.Module
    imports: dict[str, _Import] = field(default_factory=dict)
    stars: list[_Import] = field(default_factory=list)
    classes: dict[str, ast.ClassDef] = field(default_factory=dict)
    aliases: dict[str, ast.expr] = field(default_factory=dict)
    called: list[_Import] = field(default_factory=list)
    """What is imported by a call of ``import_module``."""

    def place(self, node: ast.AST) -> Place:
        """Return where a node stands."""
        return Place(self.path, getattr(node, "lineno", 1))


class ClassFound(NamedTuple):
    """A class of the recipe, or of a package whose source was followed."""

    file: SourceFile
    definition: ast.ClassDef


Meaning = ClassFound | str
"""What an expression names: a class whose source is known, or a dotted name."""


def dotted(node: ast.expr) -> tuple[str, ...]:
    """Return ``("sb", "core", "Brain")`` for ``sb.core.Brain``, () for what is no such name.

    So it does for ``getattr(sb.core, "Brain")`` and ``import_module("sb.core").Brain``.
    """
    if isinstance(node, ast.Name):
        return (node.id,)
    owner, name = node, ""
    if isinstance(node, ast.Attribute):
        owner, name = node.value, node.attr
    elif isinstance(node, ast.Call):
        called, text = _named_call(node)
        if called == "getattr" and len(node.args) == 2:
            owner, name = node.args[0], text
        else:
            return _module_of_call(called, text)
    parts = dotted(owner) if name else ()
    return (*parts, name) if parts else ()


def _named_call(node: ast.Call) -> tuple[str, str]:
    """Return what is called, by its last name, and its last argument where that is a text."""
    function = node.func
    called = getattr(function, "attr", "") or getattr(function, "id", "")
    last = node.args[-1] if node.args else None
    text = last.value if isinstance(last, ast.Constant) else ""
    return called, text if isinstance(text, str) else ""


def _module_of_call(called: str, text: str) -> tuple[str, ...]:
    """Return the module that ``import_module("a.b")`` or ``__import__("a.b")`` gives."""
    parts = tuple(text.split("."))
    if not all(parts):  # no text, or a relative name
        return ()
    if called == "import_module":
        return parts
    return parts[:1] if called == "__import__" else ()


def parse_file(path: Path) -> SourceFile:
    """Parse a file.

    Raises:
        UnreadableFileError: it is no Python, with the line.
    """
    if path.suffix == ".ipynb":
        problem = "this is a notebook: save it as a script, as `jupyter nbconvert --to script` does"
        raise UnreadableFileError(problem, Place(path, 1))
    try:
        with tokenize.open(path) as file:  # as the interpreter: with the encoding it declares
            tree = ast.parse(file.read(), str(path))
    except SyntaxError as error:
        raise UnreadableFileError(
            f"this is not Python: {error.msg}", Place(path, error.lineno or 1)
        ) from error
    except (UnicodeDecodeError, ValueError) as error:
        raise UnreadableFileError(f"this is not Python: {error}", Place(path, 1)) from error
    except (RecursionError, MemoryError) as error:
        problem = "this is nested too deeply for Python to read"
        raise UnreadableFileError(problem, Place(path, 1)) from error
    source = SourceFile(path, tree)
    for node in ast.walk(tree):
        _note_import(source, node)
        if isinstance(node, ast.ClassDef):
            source.classes[node.name] = node
        elif isinstance(node, ast.Call) and (parts := _module_of_call(*_named_call(node))):
            source.called.append(_Import(parts, 0))
    for statement in _statements(tree.body):
        _note_alias(source, statement)
    return source


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Those of a module, also inside of ``if`` and ``try``."""
    for statement in body:
        yield statement
        for name in ("body", "orelse", "finalbody"):
            if isinstance(statement, (ast.If, ast.Try, ast.With)):
                yield from _statements(getattr(statement, name, []))


def _note_import(source: SourceFile, node: ast.AST) -> None:
    if isinstance(node, ast.Import):
        for alias in node.names:
            parts = tuple(alias.name.split("."))
            if alias.asname is None:
                source.imports[parts[0]] = _Import(parts[:1], 0)
            else:
                source.imports[alias.asname] = _Import(parts, 0)
    elif isinstance(node, ast.ImportFrom):
        parts = tuple(node.module.split(".")) if node.module else ()
        for alias in node.names:
            if alias.name == "*":
                source.stars.append(_Import(parts, node.level))
            else:
                name = alias.asname or alias.name
                source.imports[name] = _Import((*parts, alias.name), node.level)


def _note_alias(source: SourceFile, statement: ast.stmt) -> None:
    if not isinstance(statement, ast.Assign) or not dotted(statement.value):
        return
    value = statement.value
    module = _module_of_call(*_named_call(value)) if isinstance(value, ast.Call) else ()
    for target in statement.targets:
        if isinstance(target, ast.Name) and module:
            source.imports[target.id] = _Import(module, 0)
        elif isinstance(target, ast.Name):
            source.aliases[target.id] = value


class SourceTree:
    """The files of a recipe: the script, and the modules beside it that it imports."""

    def __init__(self, recipe: Path) -> None:
        """Parse the script and every module beside it that it imports, directly or not.

        Raises:
            UnreadableFileError: one of them is no Python.
        """
        self._folder = recipe.resolve().parent
        self._parsed: dict[Path, SourceFile] = {}
        self.files: list[SourceFile] = []
        self.script = self._load(recipe)
        self._follow(self.script)

    def _load(self, path: Path) -> SourceFile:
        key = path.resolve()
        if key not in self._parsed:
            self._parsed[key] = parse_file(path)
        return self._parsed[key]

    def _follow(self, source: SourceFile) -> None:
        if source in self.files:
            return
        self.files.append(source)
        for imported in [*source.imports.values(), *source.stars, *source.called]:
            for path in self._files_of(imported, source):
                self._follow(self._load(path))

    def _files_of(self, imported: _Import, importer: SourceFile) -> Iterator[Path]:
        """Yield the files beside the recipe that an import runs."""
        base = self._base(imported, importer)
        for count in range(1, len(imported.parts) + 1):
            path = _module_file(base.joinpath(*imported.parts[:count]))
            if path is not None:
                yield path

    def _base(self, imported: _Import, importer: SourceFile) -> Path:
        if imported.level == 0:
            return self._folder
        above = importer.path.resolve().parents
        return above[min(imported.level, len(above)) - 1]

    def meaning(self, node: ast.expr, source: SourceFile) -> Meaning | None:
        """Return what an expression in a file names, None for what is no name."""
        parts = dotted(node)
        return self._look_up(parts, source, 0) if parts else None

    def _look_up(self, parts: tuple[str, ...], source: SourceFile, depth: int) -> Meaning:
        head, rest = parts[0], parts[1:]
        if depth > _DEEPEST:
            return ".".join(parts)
        if head in source.classes and not rest:
            return ClassFound(source, source.classes[head])
        if head in source.imports:
            imported = source.imports[head]
            whole = _Import((*imported.parts, *rest), imported.level)
            return self._look_up_imported(whole, source, depth + 1)
        if head in source.aliases:
            alias = dotted(source.aliases[head])
            if alias != parts[:1]:
                return self._look_up((*alias, *rest), source, depth + 1)
        return self._look_up_in_stars(parts, source, depth)

    def _look_up_in_stars(self, parts: tuple[str, ...], source: SourceFile, depth: int) -> Meaning:
        for star in source.stars:
            whole = _Import((*star.parts, *parts), star.level)
            found = self._look_up_imported(whole, source, depth + 1)
            if isinstance(found, ClassFound) or found.split(".")[0] in ("speechbrain", "torch"):
                return found
        return ".".join(parts)

    def _look_up_imported(self, whole: _Import, source: SourceFile, depth: int) -> Meaning:
        base = self._base(whole, source)
        for count in range(len(whole.parts), 0, -1):
            path = _module_file(base.joinpath(*whole.parts[:count]))
            if path is not None:
                rest = whole.parts[count:]
                inside = self._load(path)
                return self._look_up(rest, inside, depth) if rest else ".".join(whole.parts)
        return ".".join(whole.parts)

    def names_of_bases(self, name: str) -> set[str]:
        """Return the last names of a class of the recipe, or of a package, and of its bases.

        Args:
            name: a dotted name, as in a YAML tag, or the name of a class in the script.
        """
        names: set[str] = set()
        self._add_names(self._named(name), names)
        return names

    def class_named(self, name: str) -> ClassFound | None:
        """Return the class of the recipe, or of a package, that a YAML tag names.

        Args:
            name: a dotted name, as in a YAML tag, or the name of a class in the script.
        """
        found = self._named(name)
        if isinstance(found, ClassFound):
            return found
        return self.installed_class(found) if "." in found else None

    def _named(self, name: str) -> Meaning:
        parts = tuple(name.split("."))
        found = self._look_up(parts, self.script, 0)
        if isinstance(found, str):
            return self._look_up_imported(_Import(parts, 0), self.script, 0)
        return found

    def _add_names(self, meaning: Meaning, names: set[str]) -> None:
        name = meaning.rpartition(".")[2] if isinstance(meaning, str) else meaning.definition.name
        if name in names:
            return
        names.add(name)
        if isinstance(meaning, str):
            found = self.installed_class(meaning) if "." in meaning else None
            bases: list[Meaning | None] = [] if found is None else [found]
            names -= {name} if bases else set()
        else:
            bases = [self.meaning(base, meaning.file) for base in meaning.definition.bases]
        for base in bases:
            if base is not None:
                self._add_names(base, names)

    def installed_class(self, name: str) -> ClassFound | None:
        """Return the class behind a dotted name of an installed package, from its source.

        Nothing is imported; what is not found, or no Python source, is None.
        """
        parts = name.split(".")
        spec = importlib.util.find_spec(parts[0])
        locations = list(spec.submodule_search_locations or ()) if spec is not None else []
        for count in range(len(parts) - 1, 0, -1):
            for location in locations:
                path = _module_file(Path(location).joinpath(*parts[1:count]))
                if path is not None:
                    found = self._look_up(tuple(parts[count:]), self._load(path), 0)
                    if isinstance(found, str):  # the package imports it from another module
                        return self.installed_class(found) if found != name else None
                    return found
        return None


def _module_file(path: Path) -> Path | None:
    for candidate in (path.with_name(f"{path.name}.py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None
