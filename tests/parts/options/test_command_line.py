"""parse_arguments beside SpeechBrain's parser, and the options that are ours."""

import contextlib
import io
import shlex
import subprocess
import sys
from itertools import chain

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from speechbrain.utils.run_opts import RunOptions as TheirRunOptions

from brain_lightning.parts.options.command_line import parse_arguments
from brain_lightning.parts.options.declarations import default_values
from brain_lightning.parts.options.parser import (
    CommandLineError,
    command_line_options,
    own_options_in,
)

THEIR_DEFAULTS = TheirRunOptions().as_dict()
OUR_DEFAULTS = default_values()
THEIR_OPTIONS = sorted(THEIR_DEFAULTS)

values = st.one_of(
    st.sampled_from(["cpu", "cuda:1", "fp16", "bf16", "gloo", "default", "x.yaml", "-1", "-2.5"]),
    st.sampled_from(
        ["--", "-", "", "-x", "a b", "-a b", "a=b", "=", "--a b", "[1, 2]", "True", "1e-3"]
    ),
    st.integers(-3, 20).map(str),
    st.floats(-2, 2).map(str),
)
# Unknown ones, options in full, and options cut short.
keys = st.one_of(
    st.sampled_from(["seed", "lr", "a.b", "d", "val", "move", "no", "optim", "tr", "s-h", "train"]),
    st.sampled_from(THEIR_OPTIONS),
    st.tuples(st.sampled_from(THEIR_OPTIONS), st.integers(1, 30)).map(
        lambda pair: pair[0][: pair[1]]
    ),
)
pieces = st.one_of(
    st.tuples(keys, values).map(lambda pair: [f"--{pair[0]}", pair[1]]),
    st.tuples(keys, values).map(lambda pair: [f"--{pair[0]}={pair[1]}"]),
    keys.map(lambda key: [f"--{key}"]),
    st.tuples(st.sampled_from(["jit", "compile"]), st.lists(values, max_size=3)).map(
        lambda pair: [f"--{pair[0]}_module_keys", *pair[1]]
    ),
    values.map(lambda value: [value]),
    st.just(["hyperparams.yaml"]),
)
argument_lists = st.one_of(
    st.lists(pieces, max_size=6).map(lambda lists: [*chain.from_iterable(lists)]),
    st.lists(pieces, max_size=6).map(lambda lists: ["h.yaml", *chain.from_iterable(lists)]),
)


def outcome(parse, arguments):
    """What a parser returns, or the status with which it exits."""
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        try:
            return parse(arguments)
        except SystemExit as leaving:
            return leaving.code


def has_fraction_of_a_minute(arguments):
    """Theirs takes whole minutes only, ours any number."""
    return any("--ck" in argument for argument in arguments) and any(
        value != str(int(float(value)))
        for argument in arguments
        for value in [argument.rpartition("=")[2]]
        if is_number(value)
    )


def is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


@settings(max_examples=300, deadline=None)
@given(argument_lists.filter(lambda arguments: not has_fraction_of_a_minute(arguments)))
@example(["hyperparams.yaml", "--device", "cuda:1", "--seed", "10"])
@example(["--seed", "10", "hyperparams.yaml"])
@example(["h.yaml", "--prec", "bf16"])
@example(["h.yaml", "--no", "1"])
@example(["h.yaml", "--optim", "7"])
@example(["h.yaml", "--val", "7", "--move", "--shard=3", "--opt", "x"])
@example(["h.yaml", "--debug=True"])
@example(["h.yaml", "--optimizer_step_limit", "7"])
@example(["h.yaml", "--", "--seed", "--move_batch"])
@example(["h.yaml", "--jit_module_keys", "a", "b", "--lr=-1", "-1"])
@example(["--jit_module_keys", "a", "h.yaml"])
@example(["h.yaml", "--help"])
@example([])
def test_any_argument_list_gives_what_speechbrain_gives(arguments):
    theirs = outcome(TheirRunOptions.from_command_line_args, arguments)
    ours = outcome(parse_arguments, arguments)
    if not isinstance(theirs, tuple):
        assert ours == theirs
        return
    assert (ours[0], ours[2]) == (theirs[0], theirs[2])
    assert ours[1].overridden_args == theirs[1].overridden_args
    for name in THEIR_OPTIONS:
        both_default = (OUR_DEFAULTS[name], THEIR_DEFAULTS[name])
        if (ours[1][name], theirs[1][name]) != both_default:
            assert ours[1][name] == theirs[1][name]
            assert type(ours[1][name]) is type(theirs[1][name]) or name == "ckpt_interval_minutes"


@settings(max_examples=100, deadline=None)
@given(argument_lists.filter(lambda arguments: not has_fraction_of_a_minute(arguments)))
def test_with_speechbrains_defaults_everything_is_equal(arguments):
    theirs = outcome(TheirRunOptions.from_command_line_args, arguments)
    ours = outcome(lambda given: parse_arguments(given, default_values("speechbrain")), arguments)
    if isinstance(theirs, tuple):
        assert ours[1].as_dict() == theirs[1].as_dict()
    else:
        assert ours == theirs


def test_public_example():
    param_file, run_opts, overrides = parse_arguments(
        ["hyperparams.yaml", "--device", "cuda:1", "--seed", "10"]
    )
    assert (param_file, run_opts["device"], overrides) == ("hyperparams.yaml", "cuda:1", "seed: 10")


def test_reads_the_programs_arguments(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", "h.yaml", "--debug", "--lr=3"])
    param_file, run_opts, overrides = parse_arguments()
    assert (param_file, run_opts.debug, overrides) == ("h.yaml", True, "lr: 3")


def test_part_of_a_minute():
    assert parse_arguments(["h", "--ckpt_interval_minutes", "0.5"])[1].ckpt_interval_minutes == 0.5


def test_trainer_arguments_are_yaml_and_can_be_nested():
    _, run_opts, overrides = parse_arguments(
        shlex.split(
            "h.yaml --trainer.devices 2 --lr 3 --trainer.strategy=ddp --trainer.max_steps -1 "
            "--trainer.limit=1e-3 --trainer.a.b '[0, x]' --trainer.a.c=null "
            "--trainer '{profiler: simple, a: {d: true}}'"
        )
    )
    assert run_opts.trainer == {
        "devices": 2,
        "strategy": "ddp",
        "max_steps": -1,
        "limit": 1e-3,
        "a": {"b": [0, "x"], "c": None, "d": True},
        "profiler": "simple",
    }
    assert overrides == "lr: 3"
    assert run_opts.overridden_args == {"trainer"}


def test_the_later_trainer_argument_wins():
    arguments = ["h", "--trainer.devices", "2", "--trainer.devices=3"]
    assert parse_arguments(arguments)[1].trainer == {"devices": 3}


def test_our_options():
    _, run_opts, overrides = parse_arguments(
        shlex.split(
            "h.yaml --move_batch --optimization=automatic --async_checkpoint False "
            "--val_interval_steps 100 --shard_evaluation --no_slurm_detection"
        )
    )
    assert overrides == ""
    assert run_opts.optimization == "automatic"
    assert run_opts.move_batch is run_opts.shard_evaluation is run_opts.no_slurm_detection is True
    assert run_opts.async_checkpoint is False
    assert run_opts.val_interval_steps == 100
    assert run_opts.overridden_args == set(command_line_options(speechbrain=False)) - {"trainer"}


def test_what_follows_an_option_of_ours_is_not_taken_by_a_list_before_it():
    arguments = ["--jit_module_keys", "a", "b", "--move_batch", "h.yaml"]
    param_file, run_opts, _ = parse_arguments(arguments)
    assert param_file == "h.yaml"
    assert run_opts.jit_module_keys == ["a", "b"]


def test_our_options_cannot_be_abbreviated():
    _, run_opts, overrides = parse_arguments(["h.yaml", "--move", "--val", "3"])
    assert run_opts.move_batch is False
    assert overrides == "move:\nval: 3"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "param_file"),
        (["h", "--precision", "fp17"], "'fp17'.*fp32"),
        (["h", "--debug_batches", "many"], "debug_batches.*'many'"),
        (["h", "--trainer.devices"], "--trainer.devices: expected one value"),
        (["h", "--trainer.devices", "--debug"], "--trainer.devices: expected one value"),
        (["h", "--trainer", "3"], "'3' is no mapping; write --trainer.KEY VALUE"),
        (["h", "--trainer.a=[1"], "no YAML value"),
        (["h", "--trainer..a=1"], "empty part"),
        (["h", "--move_batch=1"], "switch and takes no value"),
        (["h", "--optimization", "both"], "'both' is not one of manual, automatic"),
        (["h", "--val_interval_steps=x"], "'x' is no int"),
        (["h", "--async_checkpoint=maybe"], "'maybe' is no bool"),
    ],
)
def test_wrong_arguments(arguments, said, capsys):
    with pytest.raises(ValueError, match=said) as caught:
        parse_arguments(arguments)
    assert isinstance(caught.value, SystemExit)
    assert isinstance(caught.value, CommandLineError)
    assert caught.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("usage:")
    assert str(caught.value) in printed.err
    assert "--help" in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (
            ["h", "--lr", "1", "--trainer.devices", "2", "--trainer.a.b=x"],
            {"devices": 2, "a": {"b": "x"}},
        ),
        (["conf", "--trainer", "fast", "--json"], {}),
        (["conf", "--optimization", "adam", "--shard_evaluation=3"], {}),
        (["conf", "--trainer.devices"], {}),
    ],
)
def test_a_command_line_of_the_recipes_own_is_left_to_it(arguments, found, capsys):
    assert own_options_in(arguments).get("trainer", {}) == found
    assert capsys.readouterr().err == ""


def test_help_shows_every_option(capsys):
    with pytest.raises(SystemExit) as caught:
        parse_arguments(["--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    for name in command_line_options(speechbrain=True) + command_line_options(speechbrain=False):
        assert f"--{name}" in shown
    assert "\0" not in shown


def test_uncaught_error_ends_with_status_two():
    program = (
        "from brain_lightning.parts.options.command_line import parse_arguments;"
        "parse_arguments(['h', '--precision', 'fp17'])"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.returncode == 2
    assert "usage:" in ended.stderr
    assert "Traceback" not in ended.stderr
