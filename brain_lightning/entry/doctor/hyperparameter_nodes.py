"""A HyperPyYAML file, read as nodes: no tag in it is followed, nothing is made."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import ruamel.yaml
from ruamel.yaml.comments import TaggedScalar
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from brain_lightning.entry.doctor.findings import Finding, Place, UnreadableFileError
from brain_lightning.entry.nearest_option import nearest_option
from brain_lightning.parts.options.trainer_arguments import read_scalar

_OBJECT_TAGS = ("!new:", "!name:", "!apply:", "!applyref:", "!module:")
_REFERENCE = re.compile(r"<([^>]*)>")
_FIRST_KEY = re.compile(r"^[^\[\].]+")


class NamedObject(NamedTuple):
    """What a tag names: ``!new:torch.optim.Adam``."""

    tag: str
    name: str
    place: Place
    arguments: Mapping[str, str | None] = MappingProxyType({})
    """The arguments that are given by name: their text, None for what is no plain text."""


@dataclass(eq=False)
class HyperparameterNodes:
    """What stands in a file of hyperparameters and in those that it includes."""

    path: Path
    top: dict[str, Node] = field(default_factory=dict)
    """The nodes of the keys of the file."""
    places: dict[str, Place] = field(default_factory=dict)
    """Where the keys of the file stand."""
    objects: list[NamedObject] = field(default_factory=list)
    placeholders: list[tuple[str, Place]] = field(default_factory=list)
    problems: list[Finding] = field(default_factory=list)
    included_by: tuple[Path, ...] = ()
    """The files through which this one is included."""
    referenced: set[str] = field(default_factory=set)
    """The keys of the file that references in it name."""
    walked: set[int] = field(default_factory=set)
    """Identities of the nodes that were looked at: an alias may stand inside of what it names."""

    def value(self, key: str) -> Any:
        """Return the value of a key, as far as it is plain; objects are ``NamedObject``."""
        return self._plain(self.top[key], ())

    def place_of(self, *keys: str) -> Place | None:
        """Return where ``keys[0]``, or in it ``keys[1]``, stands."""
        place = self.places.get(keys[0])
        node = self.top.get(keys[0])
        if len(keys) > 1 and isinstance(node, MappingNode):
            for name, _ in node.value:
                if name.value == keys[1]:
                    return self.place(name)
        return place

    def place(self, node: Node) -> Place:
        """Return where a node stands."""
        return Place(self.path, node.start_mark.line + 1)

    def _plain(self, node: Node, seen: tuple[str, ...]) -> Any:
        tag = str(node.tag)
        for kind in _OBJECT_TAGS:
            if tag.startswith(kind):
                return self._object(node, kind)
        if tag in ("!ref", "!copy"):
            return self._referenced(str(node.value), seen)
        if isinstance(node, (MappingNode, SequenceNode)):
            return self._plain_collection(node, seen)
        if tag.startswith("!") or getattr(node, "style", None) in ("'", '"', "|", ">"):
            return node.value
        return read_scalar(node.value)

    def _object(self, node: Node, kind: str) -> NamedObject:
        name = str(node.tag).removeprefix(kind)
        given = node.value if isinstance(node, MappingNode) else []
        arguments = {str(key.value): self._text(value) for key, value in given}
        return NamedObject(kind[1:-1], name, self.place(node), arguments)

    def _text(self, node: Node) -> str | None:
        found = _REFERENCE.fullmatch(str(node.value).strip()) if node.tag == "!ref" else None
        if found is not None:
            node = self.top.get(found[1], node)
        is_plain = isinstance(node, ScalarNode) and not str(node.tag).startswith("!")
        return str(node.value) if is_plain else None

    def _plain_collection(self, node: MappingNode | SequenceNode, seen: tuple[str, ...]) -> Any:
        if str(id(node)) in seen:
            return None  # an alias inside of what it names
        inside = (*seen, str(id(node)))
        if isinstance(node, MappingNode):
            return {str(key.value): self._plain(value, inside) for key, value in node.value}
        return [self._plain(item, inside) for item in node.value]

    def _referenced(self, reference: str, seen: tuple[str, ...]) -> Any:
        found = _REFERENCE.fullmatch(reference.strip())
        if found is None or found[1] in seen or found[1] not in self.top:
            return reference
        return self._plain(self.top[found[1]], (*seen, found[1]))


def read_hyperparameters(
    path: Path, overrides: Mapping[str, Any] | None = None, included_by: tuple[Path, ...] = ()
) -> HyperparameterNodes:
    """Read a file of hyperparameters.

    Args:
        path: the file.
        overrides: values of the command line, in place of the file's.
        included_by: the files through which this one is included.

    Raises:
        UnreadableFileError: it is no YAML, or no mapping; with the line.
    """
    nodes = HyperparameterNodes(path, included_by=included_by)
    given = dict(overrides or {})
    root = _compose(path)
    for key, value in root.value:
        name = str(key.value)
        if name in nodes.top:
            first = nodes.places[name].line
            message = f"the key {name!r} stands here and in line {first}; keep one of them"
            nodes.problems.append(Finding(message, nodes.place(key)))
        nodes.top[name] = _overridden(value, given, name)
        nodes.places[name] = nodes.place(key)
    for name in given.keys() - nodes.top.keys():
        near = nearest_option(name, nodes.top)
        advice = f". Did you mean --{near}?" if near else ""
        message = f"--{name} is no run option, and {path.name} has no key {name!r}{advice}"
        nodes.problems.append(Finding(message))
    for name, value in nodes.top.items():
        _walk(nodes, value, name)
    return nodes


def _overridden(node: Node, given: Mapping[str, Any], name: str) -> Node:
    value = given.get(name)
    if isinstance(value, TaggedScalar):
        return ScalarNode(value.tag.value, value.value, node.start_mark, node.end_mark)
    if name not in given or isinstance(value, (dict, list)):
        return node
    text = "" if value is None else str(value)
    return ScalarNode("tag:yaml.org,2002:str", text, node.start_mark, node.end_mark)


def _compose(path: Path) -> MappingNode:
    try:
        root = ruamel.yaml.YAML().compose(path.read_text(encoding="utf-8"))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = 1 if mark is None else mark.line + 1
        problem = f"this is not YAML: {error.problem or error.context}"
        raise UnreadableFileError(problem, Place(path, line)) from error
    except (YAMLError, UnicodeDecodeError) as error:
        first = str(error).partition("\n")[0]
        raise UnreadableFileError(f"this is not YAML: {first}", Place(path, 1)) from error
    if not isinstance(root, MappingNode):
        raise UnreadableFileError(
            "this is no file of hyperparameters: it must hold lines of `key: value`",
            Place(path, 1),
        )
    return root


def _walk(nodes: HyperparameterNodes, node: Node, key: str) -> None:
    if id(node) in nodes.walked:
        return
    nodes.walked.add(id(node))
    tag = str(node.tag)
    for kind in _OBJECT_TAGS:
        if tag.startswith(kind):
            nodes.objects.append(nodes._object(node, kind))
    if tag == "!PLACEHOLDER":
        nodes.placeholders.append((key, nodes.place(node)))
    elif tag.startswith("!include:"):
        _include(nodes, node, tag.removeprefix("!include:"))
    elif isinstance(node, ScalarNode) and (tag in ("!ref", "!copy")):
        _check_references(nodes, node)
    for child_key, child in _children(nodes, node):
        _walk(nodes, child, child_key or key)


def _children(nodes: HyperparameterNodes, node: Node) -> Iterator[tuple[str, Node]]:
    if isinstance(node, SequenceNode):
        for item in node.value:
            yield "", item
    elif isinstance(node, MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            if name in seen and isinstance(key, ScalarNode) and name != "<<":
                message = f"the key {name!r} stands twice in one mapping"
                nodes.problems.append(Finding(message, nodes.place(key)))
            seen.add(name)
            yield name, value


def _include(nodes: HyperparameterNodes, node: Node, name: str) -> None:
    path = nodes.path.parent / name
    if not path.is_file():
        message = f"the file {name} that is included here is not at {path}"
        nodes.problems.append(Finding(message, nodes.place(node)))
        return
    outer = (*nodes.included_by, nodes.path)
    if path.resolve() in [each.resolve() for each in outer]:
        through = ", ".join(each.name for each in outer[1:])
        message = "the file includes itself" + (f", through {through}" if through else "")
        nodes.problems.append(Finding(message, nodes.place(node)))
        return
    overrides = nodes._plain(node, ()) if isinstance(node, MappingNode) else {}
    inside = read_hyperparameters(path, overrides if isinstance(overrides, dict) else {}, outer)
    nodes.objects += inside.objects
    nodes.placeholders += inside.placeholders
    nodes.problems += inside.problems


def _check_references(nodes: HyperparameterNodes, node: ScalarNode) -> None:
    for reference in _REFERENCE.findall(str(node.value)):
        found = _FIRST_KEY.match(reference)
        if found is not None:
            nodes.referenced.add(found[0])
        if found is not None and found[0] not in nodes.top:
            message = f"!ref names <{reference}>, but there is no key {found[0]!r}"
            nodes.problems.append(Finding(message, nodes.place(node)))
