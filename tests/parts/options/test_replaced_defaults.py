"""Defaults that hold for a while in place of ours."""

import pytest

from brain_lightning.parts.options.command_line import parse_arguments
from brain_lightning.parts.options.replaced_defaults import effective_defaults, replaced_defaults
from brain_lightning.parts.options.resolution import resolve_options
from brain_lightning.parts.options.run_options import RunOptions

ELSE = {"ckpt_interval_minutes": 0, "compile_mode": "default"}


def _values(options):
    return {name: options[name] for name in ELSE}


def test_they_hold_everywhere_and_only_meanwhile():
    before = dict(effective_defaults())
    with replaced_defaults(ELSE):
        assert _values(RunOptions()) == ELSE
        assert _values(parse_arguments(["h.yaml"])[1]) == ELSE
        assert _values(resolve_options().values) == ELSE
    assert effective_defaults() == before
    assert _values(RunOptions())["ckpt_interval_minutes"] == 15.0


def test_what_is_given_goes_before_them_even_where_it_is_our_default():
    with replaced_defaults(ELSE):
        given = RunOptions.from_dictionary({"ckpt_interval_minutes": 15.0})
        assert given.ckpt_interval_minutes == 15.0
        assert resolve_options(given).values["ckpt_interval_minutes"] == 15.0
        assert resolve_options(None, {"compile_mode": "max-autotune"}).values["compile_mode"] == (
            "max-autotune"
        )


def test_an_unknown_option_is_refused():
    with pytest.raises(ValueError, match="no run options speed"), replaced_defaults({"speed": 1}):
        pass
