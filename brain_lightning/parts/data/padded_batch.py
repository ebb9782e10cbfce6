"""PaddedBatch: a batch of example dicts, with tensors padded and matched by key."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch.utils.data import default_convert

from brain_lightning.parts.data.collation import stack_if_possible
from brain_lightning.parts.data.device_transfer import recursive_pin_memory, recursive_to
from brain_lightning.parts.data.padding import batch_pad_right


class PaddedData(NamedTuple):
    """Padded tensors and how much of each is not padding."""

    data: torch.Tensor
    """(batch, longest time, ...)"""
    lengths: torch.Tensor
    """(batch,), relative to the longest: 0 to 1"""


class PaddedBatch:
    """Collate examples that are dicts: a ``collate_fn`` for sequences of unequal length.

    The values of a key are collected over the examples. Tensors (and numpy arrays, which become
    tensors) are padded to a :class:`PaddedData`; other values are stacked where that is possible
    and are a list otherwise. Read them as attributes (``batch.sig``), by key (``batch["sig"]``) or
    by unpacking the batch, in the order of the first example's keys.

    Args:
        examples: at least one dict; all have the keys of the first.
        padded_keys: keys to pad. Without it, every key whose first value is a tensor.
        device_prep_keys: keys that ``to()`` and ``pin_memory()`` act on. Without it, every key that
            holds tensors.
        padding_func: called with the list of values and the padding keyword arguments; returns the
            padded data and the lengths.
        padding_kwargs: keyword arguments for ``padding_func``, for every key.
        per_key_padding_kwargs: key -> keyword arguments that replace ``padding_kwargs`` for this
            key.
        apply_default_convert: whether numpy values become tensors first
            (:func:`torch.utils.data.default_convert`).
        nonpadded_stack: whether values that are not padded are stacked where possible.

    Raises:
        ValueError: there are no examples, an example lacks a key, or tensors cannot be padded
            together.
        TypeError: the examples are no mappings.
    """

    def __init__(
        self,
        examples: Sequence[Mapping[str, Any]],
        padded_keys: Collection[str] | None = None,
        device_prep_keys: Collection[str] | None = None,
        padding_func: Callable[..., tuple[Any, Any]] = batch_pad_right,
        padding_kwargs: Mapping[str, Any] | None = None,
        per_key_padding_kwargs: Mapping[str, Mapping[str, Any]] | None = None,
        apply_default_convert: bool = True,
        nonpadded_stack: bool = True,
    ) -> None:
        """Collate the examples."""
        self.__length = len(examples)
        self.__keys = _keys_of(examples)
        self.__device_prep_keys: list[str] = []
        for key in self.__keys:
            values: Any = _values_of(examples, key)
            if apply_default_convert:
                values = default_convert(values)  # type: ignore[no-untyped-call]
            if _is_chosen(key, padded_keys, values):
                kwargs = (per_key_padding_kwargs or {}).get(key, padding_kwargs or {})
                setattr(self, key, PaddedData(*padding_func(values, **kwargs)))
            else:
                values = stack_if_possible(values) if nonpadded_stack else values
                setattr(self, key, values)
            if _is_chosen(key, device_prep_keys, values):
                self.__device_prep_keys.append(key)

    def __len__(self) -> int:
        """Return the number of examples."""
        return self.__length

    def __getitem__(self, key: str) -> Any:
        """Return the values of a key."""
        if key not in self.__keys:
            raise KeyError(f"This batch has no key {key!r}; its keys are {self.__keys}.")
        return getattr(self, key)

    def __iter__(self) -> Iterator[Any]:
        """Go through the values of all keys, so that a batch can be unpacked."""
        return iter([getattr(self, key) for key in self.__keys])

    def pin_memory(self) -> PaddedBatch:
        """Move the tensors to pinned memory, in place, and return the batch itself."""
        for key in self.__device_prep_keys:
            setattr(self, key, recursive_pin_memory(getattr(self, key)))
        return self

    def to(self, *args: Any, **kwargs: Any) -> PaddedBatch:
        """Move or cast the tensors, in place, and return the batch itself.

        The arguments are those of :meth:`torch.Tensor.to`.
        """
        for key in self.__device_prep_keys:
            setattr(self, key, recursive_to(getattr(self, key), *args, **kwargs))
        return self

    def at_position(self, pos: int) -> Any:
        """Return the values of the key at that place in the order of keys."""
        return getattr(self, self.__keys[pos])

    @property
    def batchsize(self) -> int:
        """The number of examples."""
        return self.__length


def _keys_of(examples: Sequence[Mapping[str, Any]]) -> list[str]:
    if len(examples) == 0:
        raise ValueError("A PaddedBatch needs at least one example, but was given none.")
    if not isinstance(examples[0], Mapping):
        raise TypeError(
            "A PaddedBatch needs examples that are dicts, but was given "
            f"{type(examples[0]).__name__}: give the DataLoader another collate_fn."
        )
    return list(examples[0].keys())


def _values_of(examples: Sequence[Mapping[str, Any]], key: str) -> list[Any]:
    missing = [number for number, example in enumerate(examples) if key not in example]
    if missing:
        raise ValueError(
            f"Example {missing[0]} of the batch has no {key!r}, but the first one has: all "
            "examples of a batch need the same keys."
        )
    return [example[key] for example in examples]


def _is_chosen(key: str, chosen: Collection[str] | None, values: Any) -> bool:
    return isinstance(values[0], torch.Tensor) if chosen is None else key in chosen
