"""Every run option is translated, to something that exists."""

from __future__ import annotations

import inspect

import lightning.pytorch as pl
import pytest

from brain_lightning import Brain
from brain_lightning.engine.connection import connection_of
from brain_lightning.engine.trainer.option_translation import (
    OPTION_TRANSLATION,
    BrainAttribute,
    CallbackOption,
    Refused,
    TrainerArgument,
    owner_of,
)
from brain_lightning.parts.options.declarations import (
    default_values,
    is_speechbrain_option,
    option_fields,
)

READ_BEFORE_A_BRAIN_EXISTS = {"no_slurm_detection"}
TRAINER_ARGUMENTS = set(inspect.signature(pl.Trainer.__init__).parameters) - {"self"}


def test_every_option_is_translated_once() -> None:
    assert set(OPTION_TRANSLATION) == set(option_fields())


@pytest.mark.parametrize("option", OPTION_TRANSLATION)
def test_translation_names_something(option: str) -> None:
    translation = OPTION_TRANSLATION[option]
    if isinstance(translation, TrainerArgument):
        assert set(translation.names) <= TRAINER_ARGUMENTS
    elif isinstance(translation, CallbackOption):
        from brain_lightning.engine.trainer import progress_bar

        assert issubclass(getattr(progress_bar, translation.callback), pl.Callback)
    elif isinstance(translation, BrainAttribute):
        brain = Brain(run_opts={"device": "cpu"})
        holder = brain if is_speechbrain_option(option) else connection_of(brain).settings
        assert hasattr(holder, option) or option in READ_BEFORE_A_BRAIN_EXISTS
    else:
        assert isinstance(translation, Refused)
        with pytest.raises(ValueError, match=translation.reason):
            Brain(run_opts={"device": "cpu", option: not default_values()[option]})


def test_no_trainer_argument_has_two_owners() -> None:
    names = [
        name
        for translation in OPTION_TRANSLATION.values()
        if isinstance(translation, TrainerArgument)
        for name in translation.names
    ]
    assert len(names) == len(set(names))
    assert owner_of("precision") == "precision"
    assert owner_of("max_time") is None
