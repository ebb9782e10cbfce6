import logging
import sys

import pytest
import torch
from speechbrain.utils.run_opts import RunOptions as TheirRunOptions

from brain_lightning.parts.options.command_line import parse_arguments
from brain_lightning.parts.options.declarations import default_values
from brain_lightning.parts.options.resolution import resolve_options
from brain_lightning.parts.options.run_options import RunOptions

CPU = {"device": "cpu"}


def test_defaults():
    values, given = resolve_options(CPU)
    assert values == {**default_values(), "device": "cpu"}
    assert given == {"device"}


def test_default_then_hparams_then_run_opts():
    hparams = {"max_grad_norm": 1, "debug_batches": 4, "something": "else"}
    values, given = resolve_options({**CPU, "debug_batches": 7}, hparams)
    assert (values["max_grad_norm"], values["debug_batches"]) == (1.0, 7)
    assert values["nonfinite_patience"] == 3
    assert given == {"device", "max_grad_norm", "debug_batches"}


def test_default_values_of_run_options_do_not_override_hparams():
    _, run_opts, _ = parse_arguments(["h.yaml", "--device=cpu"])
    assert resolve_options(run_opts, {"precision": "bf16"}).values["precision"] == "bf16"


def test_other_defaults():
    values, given = resolve_options(CPU, {}, default_values("speechbrain"))
    assert (values["ckpt_interval_minutes"], values["compile_mode"]) == (0, "default")
    assert given == {"device"}


def test_speechbrains_own_run_options():
    theirs = TheirRunOptions.from_dictionary({"device": "cpu", "precision": "bf16"})
    values, given = resolve_options(theirs)
    assert values["precision"] == "bf16"
    assert given == {"device", "precision"}
    assert values["ckpt_interval_minutes"] == 15


@pytest.mark.parametrize(
    ("run_opts", "hparams", "expected"),
    [
        ({}, {}, (15, 0)),
        ({"ckpt_interval_steps": 5}, {}, (0, 5)),
        ({}, {"ckpt_interval_steps": 5}, (0, 5)),
        ({"ckpt_interval_minutes": 3}, {}, (3, 0)),
        ({"ckpt_interval_steps": 5}, {"ckpt_interval_minutes": 0}, (0, 5)),
        ({"ckpt_interval_minutes": 0}, {"ckpt_interval_steps": 5}, (0, 5)),
        ({"ckpt_interval_steps": 0}, {"ckpt_interval_minutes": 3}, (3, 0)),
    ],
)
def test_checkpoint_intervals(run_opts, hparams, expected):
    values, _ = resolve_options({**CPU, **run_opts}, hparams)
    assert (values["ckpt_interval_minutes"], values["ckpt_interval_steps"]) == expected


@pytest.mark.parametrize("minutes", [30, 30.0, 0.5])
@pytest.mark.parametrize("name", ["ckpt_interval_minutes", "max_grad_norm"])
def test_numbers_stay_of_the_kind_that_they_are_given_in(name, minutes):
    for given in ({name: minutes}, {}), ({}, {name: minutes}):
        value = resolve_options({**CPU, **given[0]}, given[1]).values[name]
        assert (value, type(value)) == (minutes, type(minutes))


@pytest.mark.parametrize(("text", "kind"), [("30", int), ("0.5", float)])
def test_minutes_on_the_command_line(text, kind):
    _, run_opts, _ = parse_arguments(["h.yaml", "--ckpt_interval_minutes", text])
    assert type(run_opts.ckpt_interval_minutes) is kind


def test_run_options_put_into_hparams_do_not_count_as_given():
    _, run_opts, _ = parse_arguments(["h.yaml", "--device=cpu", "--ckpt_interval_steps", "5"])
    hparams = {"seed": 1}
    hparams.update(run_opts)
    values, given = resolve_options(run_opts, hparams)
    assert given == {"device", "ckpt_interval_steps"}
    assert values["ckpt_interval_minutes"] == 0


def test_keys_of_the_recipes_own_are_not_taken_for_options(caplog):
    hparams = {"optimization": "adam", "val_interval_steps": "many", "move_batch": [1]}

    resolved = resolve_options(None, hparams)

    assert resolved.values["optimization"] is None
    assert resolved.values["val_interval_steps"] == 0
    assert not resolved.given & hparams.keys()
    for name in hparams:
        assert f"{name} is not taken for the run option" in caplog.text
    with pytest.raises(ValueError, match="trainer is 'fast'"):
        resolve_options(None, {"trainer": "fast"})


def test_trainer_arguments_are_merged_from_three_places():
    values, given = resolve_options(
        {**CPU, "trainer": {"devices": 3, "logger": {"name": "c"}}},
        {"trainer": {"devices": 1, "profiler": "simple", "logger": {"name": "a", "dir": "x"}}},
        trainer={"devices": 2, "strategy": "ddp"},
    )
    assert values["trainer"] == {
        "devices": 3,
        "profiler": "simple",
        "strategy": "ddp",
        "logger": {"name": "c", "dir": "x"},
    }
    assert "trainer" in given


def test_trainer_of_the_constructor_counts_as_given():
    values, given = resolve_options(CPU, trainer={"devices": 2})
    assert values["trainer"] == {"devices": 2}
    assert "trainer" in given


@pytest.mark.parametrize(
    ("flag", "precision"), [("auto_mix_prec", "fp16"), ("bfloat16_mix_prec", "bf16")]
)
def test_deprecated_precision(flag, precision, caplog):
    # meta is a device that every machine has and that is not the CPU
    values, _ = resolve_options({"device": "meta", flag: True})
    assert values["precision"] == precision
    assert f"{flag} is deprecated" in caplog.text


def test_an_option_that_does_not_count_as_given_is_reported(caplog):
    resolve_options(RunOptions(device="cpu", precision="bf16", overridden_args={"device"}))
    assert "precision='bf16' is ignored" in caplog.text
    assert "device=" not in caplog.text


def test_an_abbreviated_option_is_reported(caplog):
    _, run_opts, _ = parse_arguments(["h.yaml", "--device=cpu", "--prec", "bf16"])
    assert resolve_options(run_opts).values["precision"] == "fp32"
    assert "precision='bf16' is ignored" in caplog.text


def test_where_a_value_comes_from_is_logged(caplog):
    caplog.set_level(logging.INFO)
    resolve_options({**CPU, "debug_batches": 7}, {"debug_batches": 3, "max_grad_norm": 1})
    assert "max_grad_norm from hparams is used" in caplog.text
    assert "debug_batches from hparams is overridden" in caplog.text


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("optimizer_step_limit", "7", 7),
        ("grad_accumulation_factor", 2.0, 2),
        ("nonfinite_patience", float("inf"), sys.maxsize),
        ("debug", 1, True),
        ("jit_module_keys", ("a", "b"), ["a", "b"]),
        ("precision", None, None),
        ("device", torch.device("cpu"), "cpu"),
    ],
)
def test_values_written_otherwise(name, value, expected):
    resolved = resolve_options({**CPU, name: value}).values[name]
    assert resolved == expected
    assert type(resolved) is type(expected)


def test_device_is_found_when_nobody_gives_it():
    device = resolve_options().values["device"]
    assert torch.device(device).type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_devices_that_are_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for device in ("cuda", "cuda:0", "cuda:1"):
        assert resolve_options({"device": device, "precision": "fp16"}).values["device"] == device
    with pytest.raises(ValueError, match=r"'cuda:2'.* has 2 cuda.*cuda:0 to cuda:1"):
        resolve_options({"device": "cuda:2"})
