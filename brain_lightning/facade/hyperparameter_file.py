"""Resolving a file of hyperparameters, with errors that say what is wrong with it."""

from __future__ import annotations

import difflib
import io
import os
from collections.abc import Mapping
from typing import Any, TypeAlias

import ruamel.yaml
from hyperpyyaml import resolve_references
from ruamel.yaml.error import YAMLError

Overrides: TypeAlias = Mapping[str, Any] | str | None


class HyperparameterFileError(ValueError):
    """A hyperparameter file or its overrides cannot be read as what they should be."""


class MissingHyperparameterFileError(HyperparameterFileError, FileNotFoundError):
    """A hyperparameter file is not there."""


class InvalidYAMLError(HyperparameterFileError, YAMLError):
    """A hyperparameter file or its overrides are not YAML."""


class MissingHyperparameterKeyError(HyperparameterFileError, KeyError):
    """An override names a key that the hyperparameter file does not have."""

    def __str__(self) -> str:
        """Return the sentence itself, where KeyError would put it in quotes."""
        return str(self.args[0])


def resolved_hyperparameters(path: str | os.PathLike[str], overrides: Overrides = None) -> str:
    """Return the text of a HyperPyYAML file with overrides and references put in.

    Args:
        path: the file.
        overrides: values that replace the file's: a mapping, or YAML text as ``parse_arguments``
            returns it.

    Raises:
        ValueError: file or overrides cannot be read. The error is also the FileNotFoundError,
            KeyError or YAMLError that it comes from, and leaves everything as it was.
    """
    content = _mapping_in(_text_of(path), f"The hyperparameter file {path}")
    if overrides:
        _check_overrides(overrides, content, path)
    try:
        with open(path, encoding="utf-8") as stream:  # its name tells where to find !include
            resolved = resolve_references(stream, overrides)
    except FileNotFoundError as error:
        raise MissingHyperparameterFileError(
            f"The hyperparameter file {path} includes {error.filename}, which is not there."
        ) from error
    except YAMLError as error:
        raise InvalidYAMLError(
            f"The hyperparameter file {path} cannot be resolved: {error}"
        ) from error
    except ValueError as error:
        raise HyperparameterFileError(
            f"The hyperparameter file {path} cannot be resolved: {_sentence(error)}"
        ) from error
    assert isinstance(resolved, io.StringIO)
    return resolved.getvalue()


def _text_of(path: str | os.PathLike[str]) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError as error:
        raise MissingHyperparameterFileError(
            f"There is no hyperparameter file {path} (looked for at {os.path.abspath(path)})."
        ) from error
    except UnicodeDecodeError as error:
        raise InvalidYAMLError(
            f"The hyperparameter file {path} is not text in UTF-8: {error}"
        ) from error


def _check_overrides(
    overrides: Mapping[str, Any] | str, content: Mapping[str, Any], path: str | os.PathLike[str]
) -> None:
    """Refuse overrides that are no mapping, or have a key that the file does not have."""
    if isinstance(overrides, str):
        overrides = _mapping_in(overrides, f"The text of the overrides, {overrides!r},")
    if not isinstance(overrides, Mapping):
        raise TypeError(
            f"overrides is {overrides!r}; it must be a mapping of hyperparameters, or one as YAML "
            "text."
        )
    for key in overrides:
        if key not in content:
            near = difflib.get_close_matches(str(key), map(str, content), n=1)
            advice = (
                f"Did you mean {near[0]!r}?" if near else f"It has {', '.join(map(str, content))}."
            )
            raise MissingHyperparameterKeyError(
                f"{key!r} is to be overridden, but the hyperparameter file {path} has no such "
                f"key. {advice}"
            )


def _mapping_in(text: str, name: str) -> Mapping[str, Any]:
    """Read YAML; refuse what is not YAML, or not a mapping."""
    try:
        content = ruamel.yaml.YAML().load(text)
    except YAMLError as error:
        raise InvalidYAMLError(f"{name} is not YAML: {error}") from error
    if not isinstance(content, Mapping):
        raise HyperparameterFileError(
            f"{name} holds {_kind(content)}; it must hold a mapping, lines of `key: value`."
        )
    return content


def _kind(content: object) -> str:
    return "nothing" if content is None else f"a {type(content).__name__}"


def _sentence(error: Exception) -> str:
    return " ".join(str(part) for part in error.args)
