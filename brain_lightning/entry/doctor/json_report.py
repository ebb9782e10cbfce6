"""The report of ``brain-lightning doctor --json``: its keys stay as they are.

Keys of the top level: ``version`` (of this form, 1), ``recipe``, ``hparams`` (null without one),
``verdict`` ("runs" or "refused"), ``start_with`` (a command line), ``refused`` and ``notes`` (lists
of findings), ``brains``, ``run_options``, ``trainer``, ``replaced``, ``torch_distributed``,
``monitor``. A finding has ``message``, ``file`` and ``line``, null where there is no place. A brain
has ``name``, ``file``, ``line``, ``overrides`` (method -> place), ``reads``, ``writes``,
``optimizers`` (a number, or null), ``optimization`` (``mode``: "manual", "automatic" or "none", and
``why``), ``automatic`` and ``strategies`` (name -> ``possible``, ``why``).
"""

from __future__ import annotations

from typing import Any

from brain_lightning.entry.doctor.brain_diagnosis import BrainDiagnosis, Choice
from brain_lightning.entry.doctor.diagnosis import Diagnosis
from brain_lightning.entry.doctor.findings import Finding, Place
from brain_lightning.entry.doctor.hyperparameter_nodes import NamedObject

VERSION = 1


def json_report(diagnosis: Diagnosis) -> dict[str, Any]:
    """Return the report as what JSON can hold."""
    options = diagnosis.options
    assert options is not None
    start = ["python"] if diagnosis.ported else ["brain-lightning", "run"]
    hparams = None if diagnosis.hparams is None else str(diagnosis.hparams)
    return {
        "version": VERSION,
        "recipe": str(diagnosis.recipe),
        "hparams": hparams,
        "verdict": "refused" if diagnosis.refused else "runs",
        "start_with": [*start, str(diagnosis.recipe), *([hparams] if hparams else [])],
        "refused": [_finding(each) for each in diagnosis.refused],
        "notes": [_finding(each) for each in diagnosis.notes],
        "brains": [_brain(each) for each in diagnosis.brains],
        "run_options": {
            name: {"value": _plain(value), **_place(options.place_of(name))}
            for name, value in options.values.items()
            if name != "trainer"
        },
        "trainer": _plain(options.trainer),
        "replaced": {
            name: {"by": ours, **_place(place)}
            for name, (ours, place) in diagnosis.replaced.items()
        },
        "torch_distributed": {name: _place(place) for name, place in diagnosis.distributed.items()},
        "monitor": diagnosis.monitors,
    }


def unreadable_report(recipe: str, hparams: str | None, finding: Finding) -> dict[str, Any]:
    """Return the report on a recipe of which a file cannot be read."""
    return {
        "version": VERSION,
        "recipe": recipe,
        "hparams": hparams,
        "verdict": "refused",
        "start_with": [],
        "refused": [_finding(finding)],
        "notes": [],
        "brains": [],
        "run_options": {},
        "trainer": {},
        "replaced": {},
        "torch_distributed": {},
        "monitor": [],
    }


def _brain(each: BrainDiagnosis) -> dict[str, Any]:
    return {
        "name": each.brain.name,
        **_place(each.brain.place),
        "overrides": dict(each.traits.overrides),
        "reads": sorted(each.uses.reads),
        "writes": sorted(each.uses.writes),
        "optimizers": each.traits.optimizers,
        "optimization": {"mode": each.mode, "why": each.why_mode},
        "automatic": _choice(each.automatic),
        "strategies": {name: _choice(choice) for name, choice in each.strategies.items()},
    }


def _choice(choice: Choice) -> dict[str, Any]:
    return {"possible": choice.possible, "why": choice.why}


def _finding(finding: Finding) -> dict[str, Any]:
    return {"message": finding.message, **_place(finding.place)}


def _place(place: Place | None) -> dict[str, Any]:
    if place is None:
        return {"file": None, "line": None}
    return {"file": str(place.file), "line": place.line}


def _plain(value: Any) -> Any:
    if isinstance(value, NamedObject):
        return f"!{value.tag}:{value.name}"
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_plain(each) for each in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
