"""What a data set is, told by its class without importing the package that defines it."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from torch.utils.data import IterableDataset


@runtime_checkable
class YieldsExampleDicts(Protocol):
    """A data set whose examples are dicts: PaddedBatch is then the default ``collate_fn``.

    A class asks for it with the attribute ``yields_example_dicts = True``.
    """

    yields_example_dicts: bool


def yields_example_dicts(dataset: object) -> bool:
    """Whether a data set's examples are dicts for a PaddedBatch.

    So they are for SpeechBrain's DynamicItemDataset, and where the class says so.
    """
    if isinstance(dataset, YieldsExampleDicts):
        return bool(dataset.yields_example_dicts)
    return _has_ancestor(dataset, "speechbrain", ("DynamicItemDataset",))


def batches_itself(dataset: object) -> bool:
    """Whether a data set is a webdataset pipeline, in which batches are made within."""
    return _has_ancestor(dataset, "webdataset", ("DataPipeline", "Composable"))


def require_usable(dataset: Any, loader_kwargs: dict[str, Any]) -> None:
    """Check that a DataLoader can load from a data set.

    Raises:
        TypeError: it can neither be indexed nor is it an IterableDataset, or it has no length and
            there is no sampler to know the indices.
    """
    if isinstance(dataset, IterableDataset):
        return
    name = type(dataset).__name__
    if not hasattr(dataset, "__getitem__"):
        hint = (
            " It can be iterated over: wrap it in a torch.utils.data.IterableDataset."
            if hasattr(dataset, "__iter__")
            else ""
        )
        raise TypeError(
            f"A data set of type {name} cannot be loaded: it needs __getitem__ and __len__ (a "
            f"list, a tensor, a torch Dataset), or to be an IterableDataset.{hint}"
        )
    knows_indices = any(loader_kwargs.get(key) is not None for key in ("sampler", "batch_sampler"))
    if not hasattr(dataset, "__len__") and not knows_indices:
        raise TypeError(
            f"A data set of type {name} has no __len__, so which indices it has is unknown: add "
            "one, or give a sampler or batch_sampler."
        )


def _has_ancestor(obj: object, package: str, names: tuple[str, ...]) -> bool:
    return any(
        cls.__name__ in names and cls.__module__.split(".")[0] == package
        for cls in type(obj).__mro__
    )
