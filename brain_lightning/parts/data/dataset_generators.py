"""Random generators that a data set has of its own, for augmentation say."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch.utils.data import get_worker_info


def dataset_generator_states(
    dataset: object, at_first: Collection[str] | None = None
) -> dict[str, Any]:
    """Return the states of a data set's generators by name, as tensors and plain values.

    They are attributes: a ``torch.Generator``, a ``random.Random``, or one of numpy's. Those of
    data sets within count, where a ``dataset`` or ``datasets`` holds them.

    Args:
        dataset: whatever a loader loads from.
        at_first: what :func:`dataset_generator_names` returned before anything was loaded. Another
            one was made by the data set itself, as those are that take the seed of their worker.
    """
    states = {name: _state(generator) for name, generator in _generators(dataset)}
    for name, state in states.items():
        if at_first is not None and name not in at_first:
            state["made_later"] = True
    return states


def dataset_generator_names(dataset: object) -> frozenset[str]:
    """Return the names of the generators that a data set has now."""
    return frozenset(name for name, _ in _generators(dataset))


def set_dataset_generator_states(dataset: object, states: Mapping[str, Any]) -> None:
    """Set what :func:`dataset_generator_states` returned; a generator of another kind stays.

    One that the data set would make later is made now: it asks for it, and finds it.
    """
    if not states:
        return
    for prefix, owner in _owners(dataset):
        for name, state in states.items():
            before, point, attribute = name.rpartition(".")
            is_here = before + point == prefix and _attributes(owner).get(attribute) is None
            if is_here and state.get("made_later"):
                _make(owner, attribute, state["kind"])
    for name, generator in _generators(dataset):
        state = states.get(name)
        if state is not None and state["kind"] == _kind(generator):
            _set_state(generator, state["state"])


def _generators(dataset: object) -> Iterator[tuple[str, Any]]:
    seen: set[int] = set()
    for prefix, owner in _owners(dataset):
        for name, value in _attributes(owner).items():
            if _kind(value) is not None and id(value) not in seen:
                seen.add(id(value))
                yield prefix + name, value


def _owners(dataset: object) -> Iterator[tuple[str, object]]:
    """Yield the data set and those within, with what stands before their attributes' names."""
    waiting: deque[tuple[str, object]] = deque([("", dataset)])
    seen: set[int] = set()
    while waiting:
        prefix, owner = waiting.popleft()
        if id(owner) in seen:
            continue
        seen.add(id(owner))
        yield prefix, owner
        attributes = _attributes(owner)
        waiting.append((f"{prefix}dataset.", attributes.get("dataset")))
        several = attributes.get("datasets")
        if isinstance(several, (list, tuple)):
            waiting += [(f"{prefix}datasets.{i}.", each) for i, each in enumerate(several)]


def _make(owner: object, attribute: str, kind: str) -> None:
    attributes = object.__getattribute__(owner, "__dict__")
    generator = _new(kind)
    if generator is not None and isinstance(attributes, dict):
        attributes[attribute] = generator


def _new(kind: str) -> Any:
    package, _, detail = kind.partition(", ")
    if package == "torch":
        return torch.Generator(detail)
    if package == "python":
        return random.Random()
    import numpy

    if not detail:
        return numpy.random.RandomState()
    bits = getattr(numpy.random, detail, None)
    return None if bits is None else numpy.random.Generator(bits())


def _attributes(owner: object) -> dict[str, Any]:
    """Return a copy, as a thread of the data set's may add some; a data set is asked nothing."""
    try:
        return dict(object.__getattribute__(owner, "__dict__"))
    except AttributeError:
        return {}


def _kind(value: object) -> str | None:
    kind = type(value)
    if issubclass(kind, torch.Generator):
        return _kind_of_torchs(value)  # type: ignore[arg-type]
    if issubclass(kind, random.Random):
        # One that reads its numbers elsewhere has no state.
        return "python" if kind.getstate is random.Random.getstate else None
    if kind.__module__.startswith("numpy.random"):
        if kind.__name__ == "Generator":
            return f"numpy, {type(value.bit_generator).__name__}"  # type: ignore[attr-defined]
        return "numpy" if kind.__name__ == "RandomState" else None
    return None


def _kind_of_torchs(generator: torch.Generator) -> str | None:
    device = generator.device
    if device.type != "cpu" and get_worker_info() is not None:
        return None  # a process that was forked must not touch a device
    return f"torch, {device}"


def _state(generator: Any) -> dict[str, Any]:
    if isinstance(generator, torch.Generator):
        state: Any = generator.get_state()
    elif isinstance(generator, random.Random):
        state = generator.getstate()
    elif hasattr(generator, "bit_generator"):
        state = _plain(generator.bit_generator.state)
    else:
        state = _plain(generator.get_state(legacy=False))
    return {"kind": _kind(generator), "state": state}


def _set_state(generator: Any, state: Any) -> None:
    if isinstance(generator, torch.Generator):
        generator.set_state(state)
    elif isinstance(generator, random.Random):
        version, numbers, following = state
        generator.setstate((version, tuple(numbers), following))
    elif hasattr(generator, "bit_generator"):
        generator.bit_generator.state = _numpys(state)
    else:
        generator.set_state(_numpys(state))


def _plain(state: Any) -> Any:
    """Without numpy's arrays, which could only be read again with pickling."""
    if isinstance(state, dict):
        return {key: _plain(value) for key, value in state.items()}
    if type(state).__name__ == "ndarray":
        return {"array": state.tolist(), "dtype": str(state.dtype)}
    return state


def _numpys(state: Any) -> Any:
    if not isinstance(state, dict):
        return state
    if state.keys() == {"array", "dtype"}:
        import numpy

        return numpy.array(state["array"], dtype=state["dtype"])
    return {key: _numpys(value) for key, value in state.items()}
