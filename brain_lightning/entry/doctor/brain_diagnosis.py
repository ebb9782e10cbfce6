"""What becomes of one Brain class: its optimization, its strategies, what is refused."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from brain_lightning.entry.doctor.asked_options import AskedOptions
from brain_lightning.entry.doctor.brain_classes import BrainClass
from brain_lightning.entry.doctor.brain_interface import LOOP, METHODS
from brain_lightning.entry.doctor.class_refusals import refused_in_class
from brain_lightning.entry.doctor.ddp_wrapping import Wrapping, judged
from brain_lightning.entry.doctor.entries_around_ddp import around_ddp
from brain_lightning.entry.doctor.findings import Finding, Place
from brain_lightning.entry.doctor.hyperparameter_nodes import HyperparameterNodes
from brain_lightning.entry.doctor.recipe_uses import (
    ClassUses,
    Construction,
    RecipeUses,
    class_uses,
    is_optimizer,
)
from brain_lightning.entry.doctor.source_files import SourceTree
from brain_lightning.entry.doctor.trained_entries import entries_of_modules
from brain_lightning.parts.recipe_rules.optimization_rules import (
    AUTOMATIC_CALLBACKS,
    obstacle_to_automatic,
    overridden_by,
    reason_for_automatic,
    why_automatic,
    why_not_automatic,
)
from brain_lightning.parts.recipe_rules.recipe_traits import RecipeTraits
from brain_lightning.parts.recipe_rules.strategy_rules import (
    DEEPSPEED,
    STRATEGY_RULES,
    WHOLE_MODULE_DDP,
    strategy_named,
    why_not,
    why_not_beside,
)


@dataclass(frozen=True)
class Choice:
    """Whether something can be had, and why, or why not."""

    possible: bool
    why: str


@dataclass
class BrainDiagnosis:
    """What becomes of one Brain class."""

    brain: BrainClass
    uses: ClassUses
    traits: RecipeTraits
    mode: str
    """"manual", "automatic", or "none" where a run would be refused."""
    why_mode: str
    automatic: Choice
    """Whether automatic optimization could be had."""
    strategies: dict[str, Choice]
    """By the names of ``STRATEGY_RULES``."""
    refused: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)


def diagnose_class(
    brain: BrainClass,
    tree: SourceTree,
    uses: RecipeUses,
    nodes: HyperparameterNodes | None,
    options: AskedOptions,
) -> BrainDiagnosis:
    """Say what becomes of one Brain class.

    Args:
        brain: the class.
        tree: the recipe's files.
        uses: what they do outside of it.
        nodes: the hyperparameters, where there is a file of them.
        options: the run options of the file and of the command line.
    """
    of_class = class_uses(brain)
    made = uses.constructions.get(brain.name, [])
    options = options.with_constructors(made)
    patched = {**uses.patched.get("", {}), **uses.patched.get(brain.name, {})}
    loop = patched.pop(LOOP, None)
    wrapping = Wrapping()
    if uses.trains(brain.name):
        entries = entries_of_modules(nodes, made)
        wrapping = judged(around_ddp(brain, tree), entries, nodes, tree)
    traits = _traits(brain, of_class, uses, nodes, made, patched)
    traits = replace(traits, around_wrapper=wrapping.fails)
    mode, why, refusal = _optimization(options, traits, brain, tree)
    refused = [*refused_in_class(brain, of_class, made, tree, loop)]
    refused += _refused_strategy(options, traits, brain, tree) if refusal is None else [refusal]
    obstacle = obstacle_to_automatic(traits)
    return BrainDiagnosis(
        brain,
        of_class,
        traits,
        mode,
        why,
        Choice(obstacle is None, obstacle or "with --optimization automatic"),
        {name: _strategy(name, traits) for name in STRATEGY_RULES},
        refused,
        [*wrapping.notes, *_notes(brain, uses)],
    )


def _optimization(
    options: AskedOptions, traits: RecipeTraits, brain: BrainClass, tree: SourceTree
) -> tuple[str, str, Finding | None]:
    """Return the mode, why it is that, and what is refused."""
    try:
        reason = _reason(options, tree)
    except ValueError as error:
        message = str(error)
        place = _place_of_conflict(options, brain)
        return "none", message, Finding(message.rstrip("."), place)
    if reason is None:
        return "manual", "nothing that was asked for needs Lightning to step the optimizer", None
    refusal = why_not_automatic(traits, reason)
    if refusal is not None:
        return "none", refusal, Finding(refusal.rstrip("."), _obstacle(traits, brain))
    return "automatic", f"asked for by {reason}", None


def _traits(
    brain: BrainClass,
    of_class: ClassUses,
    uses: RecipeUses,
    nodes: HyperparameterNodes | None,
    made: list[Construction],
    patched: Mapping[str, Place],
) -> RecipeTraits:
    overrides = {
        name: str(member.place) for name, member in brain.members.items() if name in METHODS
    }
    for name, place in {**patched, **of_class.replaced_on_objects}.items():
        overrides.setdefault(name, str(place))
    early = [*uses.early_optimizers]
    if nodes is not None:
        early += [
            each.place for each in nodes.objects if each.tag == "new" and is_optimizer(each.name)
        ]
    return RecipeTraits(
        brain.name,
        overrides,
        _number_of_optimizers(brain, of_class, made) if uses.trains(brain.name) else None,
        str(early[0]) if early else "",
        uses.connects,
    )


def _number_of_optimizers(
    brain: BrainClass, uses: ClassUses, made: list[Construction]
) -> int | None:
    if "init_optimizers" in brain.members:
        return uses.optimizers
    given = [each.arguments for each in made]
    if any("**" in arguments for arguments in given):
        return None
    numbers = {0 if arguments.get("opt_class") is None else 1 for arguments in given}
    return numbers.pop() if len(numbers) == 1 else None  # some only evaluate, some are trained


def _reason(options: AskedOptions, tree: SourceTree) -> str | None:
    strategy = strategy_named(options.strategy)
    needed = why_automatic(
        _callback_kinds(options, tree), strategy == DEEPSPEED, strategy == WHOLE_MODULE_DDP
    )
    return reason_for_automatic(options.get("optimization"), needed)


def _callback_kinds(options: AskedOptions, tree: SourceTree) -> Iterator[tuple[str, Iterable[str]]]:
    for callback in options.callbacks:
        name = callback.name.split(".")[-1]
        yield name, tree.names_of_bases(callback.name)


def _place_of_conflict(options: AskedOptions, brain: BrainClass) -> Place | None:
    for callback in options.callbacks:
        if callback.name.split(".")[-1] in AUTOMATIC_CALLBACKS:
            return callback.place
    return options.place_of("optimization") or options.place_of("trainer") or brain.place


def _obstacle(traits: RecipeTraits, brain: BrainClass) -> Place:
    for name in (*overridden_by(traits), "init_optimizers"):
        if name in brain.members:
            return brain.members[name].place
    return brain.place


def _refused_strategy(
    options: AskedOptions, traits: RecipeTraits, brain: BrainClass, tree: SourceTree
) -> Iterator[Finding]:
    asked = options.strategy
    name = strategy_named(asked)
    if name is None:
        return
    choice = _strategy(name, traits)
    place = options.place_of("trainer")
    if not choice.possible:
        yield Finding(f"the strategy {asked!r} cannot be had: {choice.why}", place or brain.place)
    for callback in options.callbacks:
        kinds = tree.names_of_bases(callback.name)
        reason = why_not_beside(name, callback.name.rpartition(".")[2], kinds)
        if reason is not None:
            yield Finding(reason, callback.place)


def _strategy(name: str, traits: RecipeTraits) -> Choice:
    reason = why_not(name, traits)
    rules = STRATEGY_RULES[name]
    if reason is not None:
        return Choice(False, reason)
    if rules.package is not None and importlib.util.find_spec(rules.package) is None:
        return Choice(False, f"the package {rules.package} is not installed")
    return Choice(True, rules.does)


def _notes(brain: BrainClass, uses: RecipeUses) -> Iterator[Finding]:
    members = brain.members
    if "fit" in members:
        yield Finding(
            f"{brain.name} overrides fit(); where it does not call super().fit(), Lightning "
            "takes no part",
            members["fit"].place,
        )
    if uses.fits and not {"compute_forward", "fit_batch"} & members.keys():
        message = f"{brain.name} defines neither compute_forward() nor fit_batch()"
        yield Finding(message, brain.place)
    for name in ("log", "trainer"):
        if name in members:
            yield Finding(
                f"{brain.name} has a {name} of its own, which is kept; Lightning's cannot be "
                "had by this name",
                members[name].place,
            )
