"""What a recipe will do here: its Brain classes, what is refused, what is to be known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from brain_lightning.engine.trainer.option_translation import OPTION_TRANSLATION, Refused
from brain_lightning.entry.doctor.asked_options import AskedOptions
from brain_lightning.entry.doctor.brain_classes import brain_classes
from brain_lightning.entry.doctor.brain_diagnosis import BrainDiagnosis, diagnose_class
from brain_lightning.entry.doctor.findings import Finding, Place
from brain_lightning.entry.doctor.hyperparameter_nodes import HyperparameterNodes
from brain_lightning.entry.doctor.logged_values import LoggedValues, logged_values
from brain_lightning.entry.doctor.misspelt_keys import misspelt_keys
from brain_lightning.entry.doctor.monitored_names import unknown_monitors
from brain_lightning.entry.doctor.recipe_uses import RecipeUses, recipe_uses
from brain_lightning.entry.doctor.source_files import SourceTree
from brain_lightning.entry.interop.installation import is_speechbrain_installed
from brain_lightning.entry.interop.replacements import REPLACED
from brain_lightning.parts.options.declarations import default_values


@dataclass
class Diagnosis:
    """What is to be said about a recipe."""

    recipe: Path
    hparams: Path | None
    ported: bool = False
    """Whether the recipe imports brain_lightning, and so is run by plain ``python``."""
    brains: list[BrainDiagnosis] = field(default_factory=list)
    options: AskedOptions | None = None
    replaced: dict[str, tuple[str, Place]] = field(default_factory=dict)
    """SpeechBrain's names that are ours in a run: the name, ours, and where it stands first."""
    distributed: dict[str, Place] = field(default_factory=dict)
    refused: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)
    to_be_given: list[str] = field(default_factory=list)
    """Hyperparameters that only the command line can give."""
    monitors: list[str] = field(default_factory=list)
    """What callbacks of Lightning's can monitor."""


def diagnose(
    tree: SourceTree,
    nodes: HyperparameterNodes | None,
    options: AskedOptions,
) -> Diagnosis:
    """Say what becomes of a recipe.

    Args:
        tree: its Python files.
        nodes: its hyperparameters, where there is a file of them.
        options: the run options of the file and of the command line.
    """
    found = brain_classes(tree)
    uses = recipe_uses(tree)
    result = Diagnosis(tree.script.path, None if nodes is None else nodes.path, options=options)
    result.distributed = uses.distributed
    result.ported = any(brain.is_ours for brain in found)
    result.replaced = {} if result.ported else _replaced(uses, nodes)
    result.refused += _refused_everywhere(uses, nodes, options)
    result.brains = [diagnose_class(brain, tree, uses, nodes, options) for brain in found]
    result.refused += [each for brain in result.brains for each in brain.refused]
    # What holds for several classes is said once.
    result.refused = list({each.message: each for each in reversed(result.refused)}.values())[::-1]
    if nodes is not None:
        result.to_be_given = [name for name, _ in nodes.placeholders if name in nodes.top]
        result.notes += misspelt_keys(nodes, tree)
    result.notes += _notes(result, uses, nodes)
    logged = logged_values(tree, found)
    result.monitors = _monitors(uses, logged)
    made = [each for listed in uses.constructions.values() for each in listed]
    asked = options.with_constructors(made).callbacks
    result.notes += unknown_monitors(asked, logged, tree) if found else ()
    result.notes = list(dict.fromkeys(result.notes))  # classes may inherit the same
    return result


def _refused_everywhere(
    uses: RecipeUses, nodes: HyperparameterNodes | None, options: AskedOptions
) -> Iterator[Finding]:
    if uses.imported and not is_speechbrain_installed():
        name, place = next(iter(uses.imported.items()))
        yield Finding(
            f"{name} is SpeechBrain's, which is not installed: install it with "
            "`pip install 'brain-lightning[speechbrain]'`",
            place,
        )
    if nodes is not None:
        yield from nodes.problems
    yield from options.problems
    defaults = default_values()
    for name, translation in OPTION_TRANSLATION.items():
        if isinstance(translation, Refused) and options.get(name) != defaults[name]:
            message = f"{name}={options.get(name)!r} cannot be had: {translation.reason}"
            yield Finding(message, options.place_of(name))


def _replaced(uses: RecipeUses, nodes: HyperparameterNodes | None) -> dict[str, tuple[str, Place]]:
    named = dict(uses.imported)
    if nodes is not None:
        for each in nodes.objects:
            named.setdefault(each.name, each.place)
    found: dict[str, tuple[str, Place]] = {}
    for name, place in named.items():
        ours = ours_for(name)
        if ours is not None:
            found.setdefault(ours[0], (ours[1], place))
    return dict(sorted(found.items()))


def ours_for(name: str) -> tuple[str, str] | None:
    """Return the table's name for a dotted name of SpeechBrain's, and what of ours replaces it."""
    module, _, attribute = name.rpartition(".")
    homes = ["speechbrain", "speechbrain.core"] if module == "speechbrain" else [module]
    for home in homes:
        place = REPLACED.get(home, {}).get(attribute)
        if place is not None:
            return f"{home}.{attribute}", place.replace(":", ".")
    return None


def _notes(
    result: Diagnosis, uses: RecipeUses, nodes: HyperparameterNodes | None
) -> Iterator[Finding]:
    if not result.brains:
        yield Finding("no subclass of Brain was found in the recipe and the modules beside it")
    for name in result.to_be_given:
        yield Finding(f"--{name} must be given on the command line", _place_in(nodes, name))
    for each in result.brains:
        yield from each.notes
    asked = result.options
    if asked is not None and "fp16" in (asked.get("precision"), asked.get("eval_precision")):
        yield Finding("fp16 needs a GPU; bf16 works on the CPU too", asked.place_of("precision"))
    if any("spawn" in name for name in uses.distributed):
        name, place = next(each for each in uses.distributed.items() if "spawn" in each[0])
        yield Finding(f"{name} starts processes that the launcher does not know of", place)


def _place_in(nodes: HyperparameterNodes | None, name: str) -> Place | None:
    return None if nodes is None else nodes.place_of(name)


def _monitors(uses: RecipeUses, logged: LoggedValues) -> list[str]:
    names = ["train_loss"] if uses.fits else []
    names += ["valid_loss"] if uses.fits and uses.validates else []
    return [*names, *sorted(logged.names - set(names))]
