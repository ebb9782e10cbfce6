"""What of a Brain class is refused, whatever options are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from brain_lightning.entry.doctor.asked_options import wrong_run_opts
from brain_lightning.entry.doctor.brain_classes import BrainClass
from brain_lightning.entry.doctor.brain_interface import LOOP
from brain_lightning.entry.doctor.findings import Finding, Place
from brain_lightning.entry.doctor.recipe_uses import UNKNOWN, ClassUses, Construction
from brain_lightning.entry.doctor.source_files import SourceTree

MODULE_NAMES = ("torch.nn.", "lightning.LightningModule", "lightning.pytorch.LightningModule")
"""How the names of classes begin that are modules; a Brain is none."""


def refused_in_class(
    brain: BrainClass,
    uses: ClassUses,
    made: list[Construction],
    tree: SourceTree,
    loop_put_on_it: Place | None,
) -> Iterator[Finding]:
    """Yield what is refused of a class and of the calls that make an object of it.

    Args:
        brain: the class.
        uses: what its methods do.
        made: the calls.
        tree: the recipe's files.
        loop_put_on_it: where the script assigns a loop of its own to it.
    """
    yield from _refused_bases(brain, tree)
    yield from _refused_members(brain, uses, loop_put_on_it)
    for construction in made:
        yield from _refused_arguments(construction)


def _refused_bases(brain: BrainClass, tree: SourceTree) -> Iterator[Finding]:
    for found in brain.lineage:
        for base in found.definition.bases:
            name = tree.meaning(base, found.file)
            if isinstance(name, str) and name.startswith(MODULE_NAMES):
                yield Finding(
                    f"{brain.name} is also a {name}, which fails in SpeechBrain too: Brain.modules "
                    "and torch.nn.Module.modules() are two things of one name. Give the network "
                    "to the Brain in modules={...} instead",
                    found.file.place(found.definition),
                )
                return


def _refused_members(
    brain: BrainClass, uses: ClassUses, loop_put_on_it: Place | None
) -> Iterator[Finding]:
    member = brain.members.get(LOOP)
    place = loop_put_on_it if member is None else member.place
    if place is not None:
        yield Finding(
            f"{brain.name} defines _fit_train(), SpeechBrain's training loop. The loop is "
            "Lightning's here and would not call it: override fit_batch(), on_stage_start() and "
            "on_stage_end() instead",
            place,
        )
        return
    for place in uses.missing:
        message = (
            f"{brain.name} calls _fit_train(), SpeechBrain's training loop; there is none here"
        )
        yield Finding(message, place)


def _refused_arguments(construction: Construction) -> Iterator[Finding]:
    """Check what the call that makes a Brain gives literally."""
    run_opts, trainer = (_known(construction.arguments.get(each)) for each in _OPTION_ARGUMENTS)
    if isinstance(run_opts, dict):
        yield from wrong_run_opts(run_opts, construction.place)
    if isinstance(trainer, dict):
        yield from wrong_run_opts({"trainer": trainer}, construction.place)


_OPTION_ARGUMENTS = ("run_opts", "trainer")


def _known(value: Any) -> Any:
    """Return a value without what only running the recipe would tell."""
    if isinstance(value, dict):
        return {key: _known(each) for key, each in value.items() if each is not UNKNOWN}
    if isinstance(value, list):
        return [_known(each) for each in value if each is not UNKNOWN]
    return value
