"""What a recipe will do here: its optimization, its strategies, what is refused."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from brain_lightning.engine.trainer.option_translation import OPTION_TRANSLATION, Refused
from brain_lightning.entry.doctor.asked_options import AskedOptions, wrong_run_opts
from brain_lightning.entry.doctor.brain_classes import BrainClass, brain_classes
from brain_lightning.entry.doctor.brain_interface import LOOP, METHODS
from brain_lightning.entry.doctor.ddp_wrapping import Wrapping, judged
from brain_lightning.entry.doctor.entries_around_ddp import around_ddp
from brain_lightning.entry.doctor.findings import Finding, Place
from brain_lightning.entry.doctor.hyperparameter_nodes import HyperparameterNodes, NamedObject
from brain_lightning.entry.doctor.logged_values import LoggedValues, logged_values
from brain_lightning.entry.doctor.misspelt_keys import misspelt_keys
from brain_lightning.entry.doctor.monitored_names import unknown_monitors
from brain_lightning.entry.doctor.recipe_uses import (
    UNKNOWN,
    ClassUses,
    Construction,
    RecipeUses,
    class_uses,
    is_optimizer,
    recipe_uses,
)
from brain_lightning.entry.doctor.source_files import SourceTree
from brain_lightning.entry.doctor.trained_entries import entries_of_modules
from brain_lightning.entry.interop.installation import is_speechbrain_installed
from brain_lightning.entry.interop.replacements import REPLACED
from brain_lightning.parts.options.declarations import default_values
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

MODULE_NAMES = ("torch.nn.", "lightning.LightningModule", "lightning.pytorch.LightningModule")
"""How the names of classes begin that are modules; a Brain is none."""


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
    for brain in found:
        _diagnose_class(result, brain, tree, uses, nodes)
    # What holds for several classes is said once.
    result.refused = list({each.message: each for each in reversed(result.refused)}.values())[::-1]
    if nodes is not None:
        result.to_be_given = [name for name, _ in nodes.placeholders if name in nodes.top]
        result.notes += misspelt_keys(nodes, tree)
    result.notes += _notes(result, uses, nodes)
    logged = logged_values(tree, found)
    result.monitors = _monitors(uses, logged)
    made = [each for listed in uses.constructions.values() for each in listed]
    asked = callbacks_in(_with_constructor(options, made).trainer)
    result.notes += unknown_monitors(asked, logged, tree) if found else ()
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


def _diagnose_class(
    result: Diagnosis,
    brain: BrainClass,
    tree: SourceTree,
    uses: RecipeUses,
    nodes: HyperparameterNodes | None,
) -> None:
    of_class = class_uses(brain)
    made = uses.constructions.get(brain.name, [])
    options = _with_constructor(result.options or AskedOptions(), made)
    result.refused += _refused_bases(brain, tree)
    patched = {**uses.patched.get("", {}), **uses.patched.get(brain.name, {})}
    result.refused += _refused_members(brain, of_class, patched.pop(LOOP, None))
    for construction in made:
        result.refused += _refused_arguments(construction)
    wrapping = Wrapping()
    if uses.trains(brain.name):
        entries = entries_of_modules(nodes, made)
        wrapping = judged(around_ddp(brain, tree), entries, nodes, tree)
    result.notes += wrapping.notes
    traits = _traits(brain, of_class, uses, nodes, made, patched)
    traits = replace(traits, around_wrapper=wrapping.fails)
    mode, why = "manual", "nothing that was asked for needs Lightning to step the optimizer"
    refusal: str | None = None
    try:
        reason = _reason(options, tree)
    except ValueError as error:
        reason, refusal = None, str(error)
    if reason is not None:
        mode, why = "automatic", f"asked for by {reason}"
        refusal = why_not_automatic(traits, reason)
    if refusal is not None:
        mode, why = "none", refusal
        place = _place_of_conflict(options, brain) if reason is None else _obstacle(traits, brain)
        result.refused.append(Finding(refusal.rstrip("."), place))
    else:
        result.refused += _refused_strategy(options, traits, brain, tree)
    obstacle = obstacle_to_automatic(traits)
    result.brains.append(
        BrainDiagnosis(
            brain,
            of_class,
            traits,
            mode,
            why,
            Choice(obstacle is None, obstacle or "with --optimization automatic"),
            {name: _strategy(name, traits) for name in STRATEGY_RULES},
        )
    )


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


def _with_constructor(options: AskedOptions, made: list[Construction]) -> AskedOptions:
    """Return the options with those that the call which makes the Brain gives."""
    for construction in made:
        run_opts = construction.arguments.get("run_opts")
        trainer = construction.arguments.get("trainer")
        options = options.with_constructor(
            run_opts if isinstance(run_opts, dict) else {},
            trainer if isinstance(trainer, dict) else {},
            construction.place,
        )
    return options


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
    trainer = options.trainer
    strategy = strategy_named(_strategy_asked(trainer))
    needed = why_automatic(
        _callback_kinds(trainer, tree), strategy == DEEPSPEED, strategy == WHOLE_MODULE_DDP
    )
    return reason_for_automatic(options.get("optimization"), needed)


def _callback_kinds(
    trainer: Mapping[str, Any], tree: SourceTree
) -> Iterator[tuple[str, Iterable[str]]]:
    for callback in callbacks_in(trainer):
        name = callback.name.split(".")[-1]
        yield name, tree.names_of_bases(callback.name)


def callbacks_in(trainer: Mapping[str, Any]) -> list[NamedObject]:
    """Return the callbacks that Trainer arguments name."""
    given = trainer.get("callbacks")
    listed = given if isinstance(given, list) else [given]
    return [each for each in listed if isinstance(each, NamedObject)]


def _place_of_conflict(options: AskedOptions, brain: BrainClass) -> Place | None:
    for callback in callbacks_in(options.trainer):
        if callback.name.split(".")[-1] in AUTOMATIC_CALLBACKS:
            return callback.place
    return options.place_of("optimization") or options.place_of("trainer") or brain.place


def _obstacle(traits: RecipeTraits, brain: BrainClass) -> Place:
    for name in (*overridden_by(traits), "init_optimizers"):
        if name in brain.members:
            return brain.members[name].place
    return brain.place


def _strategy_asked(trainer: Mapping[str, Any]) -> Any:
    asked = trainer.get("strategy")
    return asked.name.rpartition(".")[2] if isinstance(asked, NamedObject) else asked


def _refused_strategy(
    options: AskedOptions, traits: RecipeTraits, brain: BrainClass, tree: SourceTree
) -> Iterator[Finding]:
    asked = _strategy_asked(options.trainer)
    name = strategy_named(asked)
    if name is None:
        return
    choice = _strategy(name, traits)
    place = options.place_of("trainer")
    if not choice.possible:
        yield Finding(f"the strategy {asked!r} cannot be had: {choice.why}", place or brain.place)
    for callback in callbacks_in(options.trainer):
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
        yield from _notes_on_class(each, uses)
    asked = result.options
    if asked is not None and "fp16" in (asked.get("precision"), asked.get("eval_precision")):
        yield Finding("fp16 needs a GPU; bf16 works on the CPU too", asked.place_of("precision"))
    if any("spawn" in name for name in uses.distributed):
        name, place = next(each for each in uses.distributed.items() if "spawn" in each[0])
        yield Finding(f"{name} starts processes that the launcher does not know of", place)


def _place_in(nodes: HyperparameterNodes | None, name: str) -> Place | None:
    return None if nodes is None else nodes.place_of(name)


def _notes_on_class(each: BrainDiagnosis, uses: RecipeUses) -> Iterator[Finding]:
    members = each.brain.members
    if "fit" in members:
        yield Finding(
            f"{each.brain.name} overrides fit(); where it does not call super().fit(), Lightning "
            "takes no part",
            members["fit"].place,
        )
    if uses.fits and not {"compute_forward", "fit_batch"} & members.keys():
        message = f"{each.brain.name} defines neither compute_forward() nor fit_batch()"
        yield Finding(message, each.brain.place)
    for name in ("log", "trainer"):
        if name in members:
            yield Finding(
                f"{each.brain.name} has a {name} of its own, which is kept; Lightning's cannot be "
                "had by this name",
                members[name].place,
            )


def _monitors(uses: RecipeUses, logged: LoggedValues) -> list[str]:
    names = ["train_loss"] if uses.fits else []
    names += ["valid_loss"] if uses.fits and uses.validates else []
    return [*names, *sorted(logged.names - set(names))]
