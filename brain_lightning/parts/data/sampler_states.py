"""SamplerStates: what samplers keep from one epoch to the next.

A sampler that makes its next batches when it is run to its end (SpeechBrain's DynamicBatchSampler)
gives another order in its fourth epoch than a new one in its first, and unless somebody calls its
``set_epoch``, nothing tells it which epoch a resumed run is in.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any

import torch
from torch.utils.weak import WeakIdKeyDictionary

from brain_lightning.ground.loggers import get_logger

logger = get_logger(__name__)

_PLAIN = (bool, int, float, str, type(None))
_Contents = dict[str, tuple[Any, Any]]
_seen: MutableMapping[object, dict[str, int]] = WeakIdKeyDictionary()


class SamplerStates:
    """The attributes of samplers that have changed since it was made.

    They are what a sampler computes: plain values, lists, dictionaries, tensors, arrays and
    generators. Other attributes, such as data sets and samplers within, are not looked at.
    """

    def __init__(self, samplers: Iterable[Any]) -> None:
        """Take down what the samplers are like now, before their first epoch."""
        self._samplers = list(samplers)
        self._made = [_contents(sampler) for sampler in self._samplers]
        self._sizes = [
            _first_sizes(sampler, made)
            for sampler, made in zip(self._samplers, self._made, strict=True)
        ]

    def changed(self) -> list[dict[str, Any]]:
        """Return for each sampler a copy of what has changed, as tensors and plain values.

        And of what size it was when it was made: changes are those of a sampler made so.
        """
        return [
            {"sizes": sizes, "changes": dict(_changes(sampler, made))}
            for sampler, made, sizes in zip(self._samplers, self._made, self._sizes, strict=True)
        ]

    def restore(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Give the samplers what :meth:`changed` returned."""
        if len(states) != len(self._samplers):
            return  # the loader was built differently, and its samplers are as good as new
        if [state["sizes"] for state in states] != self._sizes:
            if any(state["changes"] for state in states):
                logger.warning(
                    "A loader's sampler was made from other data, or with other options, than in "
                    "the run that this one goes on with: its order begins anew."
                )
            return
        for sampler, state in zip(self._samplers, states, strict=True):
            for name, value in state["changes"].items():
                _set(sampler, name, value)


def _first_sizes(sampler: Any, made: _Contents) -> dict[str, int]:
    """How much a sampler had when it was first seen: batches, lengths of the examples, ...

    A later fit of the script may have the sampler that an earlier one has used; a resumed run has
    it as it was made.
    """
    sizes = {
        name: len(trace)
        for name, (_, trace) in made.items()
        if trace is not None and getattr(trace, "shape", None) != ()
    }
    try:
        return _seen.setdefault(sampler, sizes)
    except TypeError:  # such as a list of batches: nothing refers to it weakly
        return sizes


def _changes(sampler: Any, made: _Contents) -> Iterator[tuple[str, Any]]:
    for name, content in _contents(sampler).items():
        if _is_same(content, made.get(name)):
            continue
        try:
            yield name, _as_plain(content[0])
        except TypeError as error:
            logger.debug("%s.%s is not saved: %s", type(sampler).__name__, name, error)


def _contents(sampler: Any) -> _Contents:
    """Return name -> (value, what shows whether it has changed)."""
    contents: _Contents = {}
    if type(sampler).__module__.startswith("torch."):
        return contents  # these keep nothing but their generator and epoch
    for name, value in getattr(sampler, "__dict__", {}).items():
        trace = _trace(value)
        if trace is not _NONE and not (name == "epoch" and hasattr(sampler, "set_epoch")):
            contents[name] = (value, trace)
    return contents


_NONE = object()


def _trace(value: Any) -> Any:
    if isinstance(value, _PLAIN):
        return None
    if type(value) in (list, tuple):
        return list(value) if _is_computed(value[:1]) else _NONE
    if type(value) is dict:
        pairs = [each for pair in value.items() for each in pair]
        return pairs if _is_computed(pairs[:2]) else _NONE
    if isinstance(value, torch.Tensor):
        return value.clone()
    if _is_array(value):
        return torch.from_numpy(value.copy())
    if isinstance(value, torch.Generator):
        return value.get_state()
    return value.getstate() if isinstance(value, random.Random) else _NONE


def _is_array(value: Any) -> bool:
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    return type(value).__name__ == "ndarray" and kind in ("b", "u", "i", "f")


def _is_number_of_numpys(value: Any) -> bool:
    return type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0


def _is_computed(values: Iterable[Any]) -> bool:
    """Whether they are of the kinds that can be saved."""
    return all(
        _is_computed(value[:1])
        if type(value) in (list, tuple)
        else isinstance(value, (*_PLAIN, torch.Tensor)) or _is_number_of_numpys(value)
        for value in values
    )


def _is_same(content: tuple[Any, Any], made: tuple[Any, Any] | None) -> bool:
    if made is None:
        return False
    (value, trace), (before, trace_before) = content, made
    if type(value) is not type(before):
        return False
    if isinstance(value, _PLAIN):
        return bool(value == before)
    if isinstance(trace, torch.Tensor):
        return torch.equal(trace, trace_before)
    # Lists within may be long, and are made anew: they need not be compared element by element.
    return len(trace) == len(trace_before) and all(
        a is b or (isinstance(a, _PLAIN) and a == b)
        for a, b in zip(trace, trace_before, strict=True)
    )


def _as_plain(value: Any) -> Any:
    """Return a copy that can be written to a file without pickled classes.

    Batches of indices, which may be many, become tensors: those are copied and written quickly.

    Raises:
        TypeError: it holds something else.
    """
    if isinstance(value, torch.Tensor):
        return value.clone()
    if _is_array(value):
        return {"array": torch.from_numpy(value.copy())}
    if isinstance(value, torch.Generator):
        return {"generator": value.get_state()}
    if isinstance(value, random.Random):
        return {"random": value.getstate()}
    if type(value) is dict:
        return {"pairs": [(_as_plain(key), _as_plain(each)) for key, each in value.items()]}
    if type(value) in (list, tuple):
        return _plain_sequence(value)
    if _is_number_of_numpys(value):
        return value.item()
    if not isinstance(value, _PLAIN):
        raise TypeError(f"it holds a {type(value).__name__}")
    return value


def _plain_sequence(values: Any) -> Any:
    if type(values) is list and values and _is_batch(values):
        return {"numbers": torch.tensor(values)}
    if type(values) is list and values and all(map(_is_batch, values)):
        numbers = [number for each in values for number in each]
        return {"batches": torch.tensor(numbers), "sizes": [len(each) for each in values]}
    return type(values)(_as_plain(each) for each in values)


def _is_batch(value: Any) -> bool:
    return type(value) is list and all(type(number) is int for number in value)


def _set(sampler: Any, name: str, state: Any) -> None:
    present = vars(sampler).get(name)
    if isinstance(state, dict) and "generator" in state:
        if isinstance(present, torch.Generator):
            present.set_state(state["generator"])
    elif isinstance(state, dict) and "random" in state:
        if isinstance(present, random.Random):
            present.setstate(state["random"])
    else:
        setattr(sampler, name, _from_plain(state))


def _from_plain(state: Any) -> Any:
    if isinstance(state, torch.Tensor):
        return state.clone()
    if isinstance(state, (list, tuple)):
        return type(state)(_from_plain(each) for each in state)
    return _from_dict(state) if isinstance(state, dict) else state


def _from_dict(state: dict[str, Any]) -> Any:
    if "array" in state:
        return state["array"].clone().numpy()
    if "numbers" in state:
        return state["numbers"].tolist()
    if "batches" in state:
        return [part.tolist() for part in state["batches"].split(state["sizes"])]
    return {_from_plain(key): _from_plain(each) for key, each in state["pairs"]}
