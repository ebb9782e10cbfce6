"""What becomes of a recipe that goes around the wrappers of DDP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from brain_lightning.entry.doctor.entries_around_ddp import AroundDDP
from brain_lightning.entry.doctor.findings import Finding
from brain_lightning.entry.doctor.hyperparameter_nodes import HyperparameterNodes, NamedObject
from brain_lightning.entry.doctor.source_files import SourceTree
from brain_lightning.entry.doctor.trained_entries import trains
from brain_lightning.parts.recipe_rules.recipe_traits import placed


@dataclass
class Wrapping:
    """What fails under DDP, and what may."""

    fails: str = ""
    """What of a trainable entry is used that the wrapper does not have, with places."""
    notes: list[Finding] = field(default_factory=list)


def judged(
    around: AroundDDP,
    entries: Mapping[str, NamedObject],
    nodes: HyperparameterNodes | None,
    tree: SourceTree,
) -> Wrapping:
    """Tell what fails under DDP.

    Args:
        around: what the Brain class uses of its entries.
        entries: what makes each entry of ``modules``, as far as it is known.
        nodes: the hyperparameters.
        tree: the recipe's files, to look up classes.
    """
    result = Wrapping()
    failing: dict[str, str] = {}
    for entry, missing in around.missing.items():
        trained = trains(entries.get(entry), tree)
        for attribute, place in missing.items():
            name = f"modules.{entry}{attribute}"
            if trained:
                failing[name] = str(place)
            elif trained is None:
                result.notes.append(Finding(_if_trained(name, entry), place))
    result.fails = placed(failing)
    for name, place in around.unwrapped.items():
        entry = _entry_of(name, entries, nodes)
        if entry and trains(entries[entry], tree):
            result.notes.append(Finding(_learned_alone(name, entry), place))
    return result


def _entry_of(
    name: str, entries: Mapping[str, NamedObject], nodes: HyperparameterNodes | None
) -> str:
    """Return the entry that is the object of a name in hparams, "" for none."""
    if nodes is None or name not in nodes.top:
        return ""
    value = nodes.value(name)
    return next((entry for entry, each in entries.items() if each == value), "")


def _if_trained(name: str, entry: str) -> str:
    return (
        f"{name} is not there under DDP if modules.{entry} has something to train: the wrapper "
        "around it has its forward() alone. Let forward() do it, or use fsdp2"
    )


def _learned_alone(name: str, entry: str) -> str:
    return (
        f"hparams.{name} is modules.{entry} without DDP's wrapper: in several processes each "
        f"learns for itself what goes through it, as in SpeechBrain. Call modules.{entry}, or use "
        "fsdp2"
    )
