"""What each way to run on several processes can do with which recipe.

The engine asks at start, ``brain-lightning doctor`` before: both get the same sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from brain_lightning.parts.recipe_rules.optimization_rules import (
    is_deepspeed,
    obstacle_to_automatic,
)
from brain_lightning.parts.recipe_rules.recipe_traits import RecipeTraits

Rule = Callable[[RecipeTraits], "str | None"]
"""Returns why a strategy cannot be had with a recipe, or None when it can."""


@dataclass(frozen=True)
class StrategyRules:
    """One strategy: what it does, and what keeps a recipe from it."""

    title: str
    does: str
    rules: tuple[Rule, ...]
    package: str | None = None
    """What must be installed for it."""


def _connected(recipe: RecipeTraits) -> str | None:
    if recipe.connects:
        return None
    return (
        "nothing in the recipe calls ddp_init_group(run_opts), which several processes need before "
        "the Brain is made"
    )


def _through_the_wrapper(recipe: RecipeTraits) -> str | None:
    if not recipe.around_wrapper:
        return None
    return (
        f"{recipe.around_wrapper} would not be there: the wrapper around a trainable entry has its "
        "forward() alone, in SpeechBrain too. Let forward() do it, or use fsdp2"
    )


def _one_backward(recipe: RecipeTraits) -> str | None:
    if "fit_batch" in recipe.overrides:
        return (
            f"{recipe.name} overrides fit_batch{_at(recipe.overrides['fit_batch'])}, and one "
            "wrapper around everything allows one backward pass for a batch"
        )
    if recipe.optimizers is not None and recipe.optimizers > 1:
        return (
            f"{recipe.name} has {recipe.optimizers} optimizers, and one wrapper around everything "
            "expects every parameter in every backward pass"
        )
    return None


def _optimizer_after_sharding(recipe: RecipeTraits) -> str | None:
    if not recipe.early_optimizer:
        return None
    return (
        f"an optimizer is made at {recipe.early_optimizer}, before the modules are sharded, and "
        "would step parameters that are there no more; make it in init_optimizers, or give "
        "opt_class"
    )


COPYING_CALLBACKS = ("StochasticWeightAveraging", "WeightAveraging")
"""Lightning's callbacks that copy the modules, which cannot be done with sharded ones."""

DDP, WHOLE_MODULE_DDP, FSDP2, DEEPSPEED = "ddp", "whole_module_ddp", "fsdp2", "deepspeed"

STRATEGY_RULES: Mapping[str, StrategyRules] = MappingProxyType(
    {
        DDP: StrategyRules(
            "DDP",
            "each trainable entry of modules is wrapped on its own",
            (_connected, _through_the_wrapper),
        ),
        WHOLE_MODULE_DDP: StrategyRules(
            "DDP, whole",
            "one wrapper around all modules; Lightning steps the optimizer",
            (_connected, _one_backward, obstacle_to_automatic),
        ),
        FSDP2: StrategyRules(
            "FSDP2",
            "each entry of modules is sharded on its own; fit_batch may own its backward passes",
            (_connected, _optimizer_after_sharding),
        ),
        DEEPSPEED: StrategyRules(
            "DeepSpeed",
            "Lightning steps the optimizer",
            (_connected, obstacle_to_automatic),
            "deepspeed",
        ),
    }
)
"""Every strategy for several processes, by the name that doctor's report has for it."""


_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "ddp": DDP,
        "ddp_find_unused_parameters_true": DDP,
        "ddp_find_unused_parameters_false": DDP,
        "whole_module_ddp": WHOLE_MODULE_DDP,
        "fsdp2": FSDP2,
        "FSDP2": FSDP2,
        "DeepSpeedStrategy": DEEPSPEED,
    }
)
"""Values of ``trainer.strategy``, and classes of strategies -> the strategy."""


def strategy_named(name: object) -> str | None:
    """Return the strategy of ``STRATEGY_RULES`` that a value of ``trainer.strategy`` means."""
    return DEEPSPEED if is_deepspeed(name) else _NAMES.get(str(name))


def why_not(strategy: str, recipe: RecipeTraits) -> str | None:
    """Return why the recipe cannot use a strategy of ``STRATEGY_RULES``, or None when it can."""
    for rule in STRATEGY_RULES[strategy].rules:
        reason = rule(recipe)
        if reason is not None:
            return reason
    return None


def why_not_beside(strategy: str, callback: str, kinds: Iterable[str]) -> str | None:
    """Return why a callback cannot be had with a strategy, or None when it can.

    Args:
        strategy: one of ``STRATEGY_RULES``.
        callback: the name of its class.
        kinds: the names of all classes that it is.
    """
    if strategy != FSDP2 or set(COPYING_CALLBACKS).isdisjoint(kinds):
        return None
    return (
        f"the callback {callback} copies the modules, which cannot be done with sharded ones "
        "(strategy fsdp2). Leave out one of the two; average_checkpoints averages afterwards"
    )


def _at(place: str) -> str:
    return f" ({place})" if place else ""
