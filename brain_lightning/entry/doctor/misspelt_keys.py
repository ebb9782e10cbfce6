"""Keys of a file that are almost those of run options, and that nothing uses."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from brain_lightning.entry.doctor.findings import Finding
from brain_lightning.entry.doctor.hyperparameter_nodes import HyperparameterNodes
from brain_lightning.entry.doctor.source_files import SourceTree
from brain_lightning.entry.nearest_option import nearest_option
from brain_lightning.parts.options.declarations import option_fields

_ALIKE = 0.85
"""``traner`` and ``trainer`` are; ``num_epochs`` and ``number_of_epochs`` are not."""


def misspelt_keys(nodes: HyperparameterNodes, tree: SourceTree) -> Iterator[Finding]:
    """Yield a finding for each key that may have been meant for a run option."""
    unused = [
        name
        for name in nodes.top
        if name not in option_fields()
        and name not in nodes.referenced
        and nearest_option(name, alike=_ALIKE) is not None
    ]
    words = set(_words(tree)) if unused else set()
    for name in unused:
        near = nearest_option(name, alike=_ALIKE)
        if name not in words and near not in nodes.top:
            message = (
                f"nothing uses the key {name!r}, which is no run option. Did you mean {near!r}?"
            )
            yield Finding(message, nodes.places[name])


def _words(tree: SourceTree) -> Iterator[str]:
    """Yield every name and text in the recipe's files."""
    for source in tree.files:
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Constant):
                yield str(node.value)
            for field in ("attr", "id", "arg"):
                word = getattr(node, field, None)
                if isinstance(word, str):
                    yield word
