"""Who steps the optimizer, Brain or Lightning: the rule, without a live object."""

from __future__ import annotations

from collections.abc import Iterable

from brain_lightning.parts.recipe_rules.recipe_traits import RecipeTraits, placed

OWNED_BY_LIGHTNING = ("fit_batch", "optimizers_step", "freeze_optimizers", "zero_grad", "no_sync")
"""What a recipe must leave alone when Lightning is to step its optimizer."""

AUTOMATIC_CALLBACKS = (
    "GradientAccumulationScheduler",
    "LearningRateFinder",
    "StochasticWeightAveraging",
)
"""Lightning's callbacks that change what Lightning does around its own optimizer step."""


def is_deepspeed(strategy: object) -> bool:
    """Whether the name of a strategy is one of DeepSpeed's."""
    return isinstance(strategy, str) and strategy.startswith("deepspeed")


def why_automatic(
    callbacks: Iterable[tuple[str, Iterable[str]]],
    deepspeed: bool = False,
    whole_module_ddp: bool = False,
) -> str | None:
    """Return what needs Lightning to step the optimizer, or None.

    Args:
        callbacks: of each callback of the run, the name of its class and the names of all classes
            it is.
        deepspeed: whether the strategy is DeepSpeed's.
        whole_module_ddp: whether one wrapper is put around all modules, for several processes.
    """
    if whole_module_ddp:
        return "the strategy whole_module_ddp"
    for name, kinds in callbacks:
        if not set(AUTOMATIC_CALLBACKS).isdisjoint(kinds):
            return f"the callback {name}"
    return "the strategy DeepSpeed" if deepspeed else None


def reason_for_automatic(asked: str | None, needed: str | None) -> str | None:
    """Return why the mode is automatic, or None when it is manual.

    Args:
        asked: the run option ``optimization``.
        needed: what needs automatic optimization, from ``why_automatic``.

    Raises:
        ValueError: one excludes the other.
    """
    if asked == "automatic":
        return "optimization='automatic'"
    if asked == "manual" and needed is not None:
        raise ValueError(
            f"{needed} needs automatic optimization, but optimization='manual' was given. "
            "Leave out one of the two."
        )
    return needed


def overridden_by(recipe: RecipeTraits) -> dict[str, str]:
    """Return what of ``OWNED_BY_LIGHTNING`` the recipe overrides, and where."""
    return {name: recipe.overrides[name] for name in OWNED_BY_LIGHTNING if name in recipe.overrides}


def obstacle_to_automatic(recipe: RecipeTraits) -> str | None:
    """Return what of this recipe keeps Lightning from stepping its optimizer, or None."""
    overridden = overridden_by(recipe)
    if overridden:
        return f"{recipe.name} overrides {placed(overridden)}, which Lightning would do instead"
    if recipe.optimizers not in (None, 1):
        return f"{recipe.name} has {recipe.optimizers} optimizers, and exactly one is needed"
    return None


def why_not_automatic(recipe: RecipeTraits, reason: str) -> str | None:
    """Return why this recipe is refused with automatic optimization, or None when it is not.

    Args:
        recipe: what it overrides, and how many optimizers it has where that is known.
        reason: what asks for automatic optimization, as the user would name it.
    """
    obstacle = obstacle_to_automatic(recipe)
    if obstacle is None:
        return None
    advice = ", or remove the override" if overridden_by(recipe) else ""
    return (
        f"Automatic optimization was asked for by {reason}, but {obstacle}. Use manual "
        f"optimization, the default, without {reason}{advice}."
    )
