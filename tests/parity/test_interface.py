"""Everything that SpeechBrain's users can call has the same name, arguments and defaults here."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator
from typing import Any

import pytest

from .library import our_library, speechbrain_library
from .small_recipes import modules

CLASSES = (
    "Brain",
    "Checkpointer",
    "EpochCounter",
    "EpochCounterWithStopper",
    "SaveableDataLoader",
    "LoopedLoader",
    "PaddedBatch",
    "FileTrainLogger",
)
# Called or overridden by recipes in spite of the underscore (RECIPES.md), or by name from hooks.
PRIVATE_BUT_USED = {
    "Brain": {
        "__init__",
        "_compile",
        "_fit_valid",
        "_recover",
        "_save",
        "_train_loader_specifics",
        "_wrap_distributed",
    }
}
# Recipes written for SpeechBrain 1.0 still give it (RECIPES.md); 1.1 has dropped it.
ADDITIONAL_ARGUMENTS = {
    ("Checkpointer", "recover_if_possible"): ["device"],
    ("Checkpointer", "load_checkpoint"): ["device"],
    # DESIGN 2
    ("Brain", "__init__"): ["trainer"],
    ("Brain", "fit"): ["ckpt_path", "datamodule"],
}
FUNCTIONS = ("make_dataloader", "register_checkpoint_hooks", "mark_as_saver", "mark_as_loader")


def own_methods(cls: type[Any]) -> Iterator[str]:
    """Name the methods that SpeechBrain wrote, not those of torch's bases."""
    used = PRIVATE_BUT_USED.get(cls.__name__, {"__init__"})
    for name, value in vars(cls).items():
        public = not name.startswith("_") or name in used
        if public and callable(getattr(cls, name)) and not isinstance(value, type):
            yield name


def parameters(function: Any) -> list[tuple[str, Any, Any]]:
    """List name, kind and default of every argument."""
    return [
        (parameter.name, parameter.kind, comparable(parameter.default))
        for parameter in inspect.signature(function).parameters.values()
    ]


def comparable(default: Any) -> Any:
    """Mutable defaults may become others (DESIGN 7); functions are compared by being there."""
    if default is None or (isinstance(default, (list, dict, tuple)) and not default):
        return "none or empty"
    if isinstance(default, (list, tuple)):
        return tuple(comparable(item) for item in default)
    if callable(default) and default is not inspect.Parameter.empty:
        return "a function"
    return default


# Written down when the tests are collected: SpeechBrain's mutable defaults change as it runs.
EXPECTED = {
    (class_name, method): parameters(getattr(getattr(speechbrain_library(), class_name), method))
    for class_name in CLASSES
    for method in own_methods(getattr(speechbrain_library(), class_name))
}


@pytest.mark.parametrize(("class_name", "method"), EXPECTED)
def test_method_has_the_same_signature(class_name: str, method: str) -> None:
    ours = getattr(getattr(our_library(), class_name), method, None)
    assert ours is not None, f"{class_name}.{method} is missing"
    expected, found = EXPECTED[class_name, method], parameters(ours)
    additional = ADDITIONAL_ARGUMENTS.get((class_name, method), [])
    if (class_name, method) == ("Brain", "fit"):  # fit(counter, datamodule=...) has no train_set
        expected = [
            (name, kind, "none or empty" if name == "train_set" else default)
            for name, kind, default in expected
        ]
    assert found[: len(expected)] == expected
    assert [name for name, _, _ in found[len(expected) :]] == additional
    assert all(default == "none or empty" for _, _, default in found[len(expected) :])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_has_the_same_signature(name: str) -> None:
    assert parameters(getattr(our_library(), name)) == parameters(
        getattr(speechbrain_library(), name)
    )


def test_stage_has_the_same_members() -> None:
    theirs, ours = speechbrain_library().Stage, our_library().Stage
    assert [(member.name, member.value) for member in ours] == [
        (member.name, member.value) for member in theirs
    ]
    for name in ("TRAIN", "VALID", "TEST"):
        assert ours[name] == theirs[name]
        assert theirs[name] == ours[name]
        assert {theirs[name]: 1}[ours[name]] == 1
    assert ours.TRAIN != theirs.VALID


def test_brain_has_the_same_attributes() -> None:
    """Every attribute of a new Brain, with the same value where that is a plain one."""
    options = {"device": "cpu"}
    theirs = speechbrain_library().Brain(modules(), hparams={"a": 1}, run_opts=options)
    ours = our_library().Brain(modules(), hparams={"a": 1}, run_opts=options)
    missing = [name for name in vars(theirs) if not hasattr(ours, name)]
    assert not missing
    plain = (bool, int, float, str, dict, type(None))
    different = {
        name: (value, getattr(ours, name))
        for name, value in vars(theirs).items()
        if isinstance(value, plain) and getattr(ours, name) != value
    }
    # DESIGN 6: the public page is followed where the 1.1 code says something else.
    for name in ("ckpt_interval_minutes", "compile_mode"):
        different.pop(name, None)
    assert not different


def test_run_options_have_the_same_fields_and_defaults() -> None:
    from speechbrain.utils.run_opts import RunOptions as Theirs

    from brain_lightning import RunOptions as Ours

    ours = {field.name: getattr(Ours(), field.name) for field in dataclasses.fields(Ours)}
    theirs = Theirs().as_dict()
    ours = {name: value for name, value in ours.items() if name in theirs}
    assert list(ours) == [name for name in theirs if name in ours]
    assert set(theirs) == set(ours)
    for name in ("ckpt_interval_minutes", "compile_mode"):
        ours.pop(name), theirs.pop(name)
    assert ours == theirs


def test_counters_and_loggers_have_the_same_attributes() -> None:
    theirs, ours = speechbrain_library(), our_library()
    for name, arguments in (
        ("EpochCounter", (3,)),
        ("EpochCounterWithStopper", (3, 2, 1, "max")),
        ("LoopedLoader", ([1, 2], 3)),
    ):
        expected = vars(getattr(theirs, name)(*arguments))
        found = getattr(ours, name)(*arguments)
        for attribute, value in expected.items():
            assert hasattr(found, attribute), f"{name}.{attribute}"
            if isinstance(value, (int, float, str)):
                assert getattr(found, attribute) == value
