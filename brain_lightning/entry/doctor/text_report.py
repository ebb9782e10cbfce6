"""The report of ``brain-lightning doctor`` for people: at most 100 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence

from brain_lightning.entry.doctor.brain_diagnosis import BrainDiagnosis, Choice
from brain_lightning.entry.doctor.diagnosis import Diagnosis
from brain_lightning.entry.doctor.findings import Finding
from brain_lightning.parts.options.declarations import is_speechbrain_option
from brain_lightning.parts.recipe_rules.optimization_rules import AUTOMATIC_CALLBACKS
from brain_lightning.parts.recipe_rules.strategy_rules import STRATEGY_RULES

_WIDTH = 96
_INDENT = 18


def text_report(diagnosis: Diagnosis) -> str:
    """Return the report, what is refused first."""
    lines = [_verdict(diagnosis)]
    if diagnosis.refused:
        lines += ["", "Refused", *_findings(diagnosis.refused)]
    for each in diagnosis.brains:
        lines += ["", *_class(each)]
    lines += ["", "The recipe", *_recipe(diagnosis)]
    if diagnosis.brains:
        lines += ["", "Lightning on top", *_lightning(diagnosis)]
    if diagnosis.notes:
        lines += ["", "Notes", *_findings(diagnosis.notes)]
    return "\n".join(lines)


def _verdict(diagnosis: Diagnosis) -> str:
    name = diagnosis.recipe.name
    if diagnosis.hparams is not None:
        name = f"{name} with {diagnosis.hparams.name}"
    count = len(diagnosis.refused)
    if count == 0:
        return f"{name}: nothing is refused."
    return f"{name}: {count} thing{'s are' if count > 1 else ' is'} refused."


def _findings(findings: Iterable[Finding]) -> Iterator[str]:
    for finding in findings:
        place = "" if finding.place is None else f"{finding.place}: "
        yield from textwrap.wrap(
            f"{place}{finding.message}{'' if finding.message.endswith('?') else '.'}",
            _WIDTH,
            initial_indent="  ",
            subsequent_indent="    ",
            break_long_words=False,
            break_on_hyphens=False,
        )


def _row(label: str, text: str) -> Iterator[str]:
    yield from textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=f"  {label} ".ljust(_INDENT),
        subsequent_indent=" " * _INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _class(each: BrainDiagnosis) -> Iterator[str]:
    yield f"{each.brain.name} ({each.brain.place})"
    yield from _row("overrides", ", ".join(_short_places(each)) or "nothing")
    if each.uses.reads - each.traits.overrides.keys():
        used = each.uses.reads - each.uses.writes - each.traits.overrides.keys()
        yield from _row("reads", ", ".join(sorted(used)))
    if each.uses.writes:
        yield from _row("writes", ", ".join(sorted(each.uses.writes)))
    yield from _row("optimization", f"{each.mode}: {each.why_mode.rstrip('.')}.")
    if each.mode == "manual":
        yield from _choice("  automatic", each.automatic)
    for name, choice in each.strategies.items():
        yield from _choice(STRATEGY_RULES[name].title, choice)


def _choice(label: str, choice: Choice) -> Iterator[str]:
    yield from _row(label, f"{'yes' if choice.possible else 'no'}: {choice.why}.")


def _short_places(each: BrainDiagnosis) -> list[str]:
    """``fit_batch:30`` for what stands in the class's own file, else with the file's name."""
    own = each.brain.place.file.name
    return [
        f"{name}{place.removeprefix(own)}" if place.startswith(own) else f"{name} ({place})"
        for name, place in each.traits.overrides.items()
    ]


def _recipe(diagnosis: Diagnosis) -> Iterator[str]:
    hparams = diagnosis.hparams.name if diagnosis.hparams is not None else "HPARAMS.yaml"
    start = "python" if diagnosis.ported else "brain-lightning run"
    missing = "".join(f" --{name} ..." for name in diagnosis.to_be_given)
    yield from _row("start it with", f"{start} {diagnosis.recipe.name} {hparams}{missing}")
    options = diagnosis.options
    if options is not None and options.values:
        given = [
            f"{name}={value!r} ({options.place_of(name) or 'command line'})"
            for name, value in options.values.items()
            if name != "trainer" and (is_speechbrain_option(name) or value is not None)
        ]
        if given:
            yield from _row("run options", ", ".join(given))
        for name, value in options.trainer.items():
            yield from _row(f"trainer.{name}", _shown(value))
    if diagnosis.replaced:
        names = [
            f"{name.rpartition('.')[2]} ({place})"
            for name, (_, place) in diagnosis.replaced.items()
        ]
        yield from _row("ours in a run", ", ".join(names))
    if diagnosis.distributed:
        used = [f"{name} ({place})" for name, place in diagnosis.distributed.items()]
        yield from _row("distributed", ", ".join(used))


def _shown(value: object) -> str:
    listed = value if isinstance(value, list) else [value]
    return ", ".join(str(getattr(each, "name", each)) for each in listed)


def _but(brains: Sequence[BrainDiagnosis]) -> str:
    """Say which callbacks these Brains refuse."""
    if all(each.automatic.possible for each in brains):
        return ""
    needing = ", ".join(AUTOMATIC_CALLBACKS)
    return f" but {needing}, which need automatic optimization"


def _lightning(diagnosis: Diagnosis) -> Iterator[str]:
    if diagnosis.monitors:
        yield from _row("to monitor", ", ".join(diagnosis.monitors))
    yield from _row("callbacks", f"all of Lightning's{_but(diagnosis.brains)}")
    yield from _row("loggers", "--trainer.logger tensorboard, csv, mlflow, wandb, comet")
    yield from _row(
        "and",
        "--trainer.max_time, profiler, limit_train_batches, detect_anomaly, ... : "
        "docs/lightning.md",
    )
