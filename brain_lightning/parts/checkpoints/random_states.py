"""The states of all random generators of a process, so that a resumed run draws the same."""

from __future__ import annotations

import pickle
import random
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import torch

from brain_lightning.ground.loggers import get_logger

logger = get_logger(__name__)


def random_states(generators: Mapping[str, torch.Generator] | None = None) -> dict[str, Any]:
    """Return this process's random states as tensors and plain values.

    They are those of Python, of numpy if it is imported, of torch on the CPU and on each device of
    the accelerator that is in use, and of ``generators`` by their names.
    """
    states = processor_random_states()
    states["devices"] = _device_states()
    states["generators"] = {
        name: generator.get_state() for name, generator in (generators or {}).items()
    }
    return states


def processor_random_states() -> dict[str, Any]:
    """Return those of the states that belong to no device: Python's, torch's and numpy's."""
    states: dict[str, Any] = {"python": random.getstate(), "torch": torch.get_rng_state()}
    if "numpy" in sys.modules:
        states["numpy"] = _plain_numpy_state(*_numpy_state())
    return states


def packed_random_states() -> bytes:
    """Return :func:`processor_random_states` in a form that is quickly sent to another process."""
    numpy_state = _numpy_state() if "numpy" in sys.modules else None
    return pickle.dumps((random.getstate(), torch.get_rng_state().numpy(), numpy_state))


def unpacked_random_states(packed: bytes) -> dict[str, Any]:
    """Return what was packed; the bytes must come from a process of one's own."""
    python_state, torch_state, numpy_state = pickle.loads(packed)
    states = {"python": python_state, "torch": torch.from_numpy(torch_state)}
    if numpy_state is not None:
        states["numpy"] = _plain_numpy_state(*numpy_state)
    return states


def set_random_states(
    states: Mapping[str, Any], generators: Mapping[str, torch.Generator] | None = None
) -> None:
    """Put this process's random generators into states that :func:`random_states` returned.

    A generator that is not here, as that of a device, is left out with a warning in the log.
    """
    set_processor_random_states(states)
    _set_device_states(states["devices"])
    for name, state in states["generators"].items():
        generator = (generators or {}).get(name)
        if generator is not None:
            generator.set_state(state)
        else:
            logger.warning(f"There is no generator {name!r} here whose state could be restored")


def set_processor_random_states(states: Mapping[str, Any]) -> None:
    """Set what :func:`processor_random_states` returned."""
    random.setstate(_nested_tuple(states["python"]))
    torch.set_rng_state(states["torch"])
    if "numpy" in states:
        _set_numpy_state(states["numpy"])


def _numpy_state() -> tuple[Any, ...]:
    import numpy

    return tuple(numpy.random.get_state(legacy=True))


def _plain_numpy_state(name: str, keys: Any, *others: float) -> dict[str, Any]:
    # As a torch tensor it can be loaded without pickling.
    plain_keys = torch.tensor(keys.tolist(), dtype=torch.int64)
    return {"name": str(name), "keys": plain_keys, "others": [float(value) for value in others]}


def _set_numpy_state(state: Mapping[str, Any]) -> None:
    try:
        import numpy
    except ImportError:
        logger.warning("numpy is not installed here, so that its random state is not restored")
        return
    keys = numpy.array(state["keys"].tolist(), dtype=numpy.uint32)
    position, has_gauss, gauss = state["others"]
    numpy.random.set_state((state["name"], keys, int(position), int(has_gauss), gauss))


def _accelerator() -> tuple[str, ModuleType] | None:
    """The kind of accelerator that is in use here, and torch's module for it."""
    for kind in ("cuda", "xpu", "mps"):
        module: ModuleType | None = getattr(torch, kind, None)
        if module is not None and module.is_available():
            # Asking a CUDA device that nobody uses would start it.
            is_in_use = getattr(module, "is_initialized", lambda: True)()
            return (kind, module) if is_in_use else None
    return None


def _device_states() -> dict[str, torch.Tensor]:
    found = _accelerator()
    if found is None:
        return {}
    kind, module = found
    if kind == "mps":
        return {"mps": module.get_rng_state()}
    return {f"{kind}:{i}": state for i, state in enumerate(module.get_rng_state_all())}


def _set_device_states(states: Mapping[str, torch.Tensor]) -> None:
    for name, state in states.items():
        kind, _, index = name.partition(":")
        module = getattr(torch, kind, None)
        if module is None or not module.is_available():
            logger.warning(f"There is no device {name} here whose random state could be restored")
        elif not index:
            module.set_rng_state(state)
        elif int(index) < module.device_count():
            module.set_rng_state(state, device=int(index))
        else:
            logger.warning(f"There is no device {name} here whose random state could be restored")


def _nested_tuple(value: Any) -> Any:
    return tuple(map(_nested_tuple, value)) if isinstance(value, (list, tuple)) else value
