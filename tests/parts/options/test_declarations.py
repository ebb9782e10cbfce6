import dataclasses
from pathlib import Path

import pytest
from speechbrain.utils.run_opts import RunOptions as TheirRunOptions

from brain_lightning.parts.options.declarations import (
    Declarations,
    default_of,
    default_values,
    option_fields,
    option_of,
)
from brain_lightning.parts.options.documentation import options_table
from brain_lightning.parts.options.value_types import checked_value

OURS = {
    "trainer": {},
    "optimization": None,
    "move_batch": False,
    "shard_evaluation": False,
    "async_checkpoint": True,
    "val_interval_steps": 0,
    "no_slurm_detection": False,
}


def test_speechbrains_options_come_first_in_its_order():
    theirs = [field.name for field in dataclasses.fields(TheirRunOptions)]
    assert len(theirs) == 39
    assert [*option_fields()] == [*theirs, *OURS]
    for name, field in option_fields().items():
        assert option_of(field).speechbrain is (name in theirs)


def test_defaults_of_speechbrain():
    theirs = TheirRunOptions().as_dict()
    assert default_values("speechbrain") == {**theirs, **OURS}


def test_our_defaults_differ_in_two_places():
    ours, theirs = default_values(), default_values("speechbrain")
    different = {name: ours[name] for name in ours if ours[name] != theirs[name]}
    assert different == {"ckpt_interval_minutes": 15.0, "compile_mode": "reduce-overhead"}


def test_unknown_profile():
    with pytest.raises(ValueError, match=r"'pytorch'.*'speechbrain'"):
        default_values("pytorch")


def test_containers_are_not_shared():
    for name in ("tqdm_barcolor", "trainer", "overridden_args"):
        assert default_values()[name] is not default_values()[name]
        assert getattr(Declarations(), name) is not getattr(Declarations(), name)


@pytest.mark.parametrize("name", [*option_fields()])
def test_a_default_is_a_possible_value(name):
    field = option_fields()[name]
    for profile in ("brain_lightning", "speechbrain"):
        default = default_of(field, profile)
        assert checked_value(field.type, default) == default
        assert option_of(field).choices is None or default in (None, *option_of(field).choices)


def test_every_option_has_help_and_a_row_in_the_table():
    rows = options_table().splitlines()[2:]
    assert len(rows) == len(option_fields())
    for row, (name, field) in zip(rows, option_fields().items(), strict=True):
        assert f"{name}`" in row
        assert option_of(field).help in row
        assert row.replace("\\|", "").count("|") == 6


def test_the_documentation_ends_with_the_table():
    page = (Path(__file__).parents[3] / "docs" / "options.md").read_text(encoding="utf-8")
    before = page[: page.index("| option |")]
    assert page == before + options_table(), f"it should end with\n{options_table()}"


def test_the_table_has_the_defaults_of_a_profile():
    assert "`reduce-overhead`" in options_table()
    assert "`reduce-overhead`" not in options_table("speechbrain")
