import copy
import dataclasses
import pickle

import pytest
from speechbrain.utils.run_opts import RunOptions as TheirRunOptions

from brain_lightning.parts.options.run_options import RunOptions

GIVEN = {"device": "cpu", "max_grad_norm": 1.0, "jit_module_keys": ["a"], "debug": True}
# Theirs and ours then have the same values throughout.
SAME = {**GIVEN, "ckpt_interval_minutes": 3, "compile_mode": "default"}


@pytest.fixture(params=[TheirRunOptions, RunOptions])
def options(request):
    return request.param.from_dictionary(SAME)


def test_reading_like_a_dict(options):
    assert options["device"] == options.device == options.get("device") == "cpu"
    assert options.get("seed") is None
    assert options.get("seed", 3) == 3
    assert "debug" in options
    assert "seed" not in options
    assert options.overridden_args == set(SAME)
    assert dict(options) == options.as_dict() == dict(options.items()) == {**options}
    assert [*options] == [*options.keys()]
    assert [*options.values()] == [*options.as_dict().values()]


def test_lists_what_speechbrains_lists():
    theirs, ours = TheirRunOptions.from_dictionary(SAME), RunOptions.from_dictionary(SAME)
    assert ours.as_dict() == theirs.as_dict()
    assert [*ours] == [*theirs]
    hparams = {"seed": 1, "debug": False}
    hparams.update(ours)
    assert hparams == {"seed": 1, **theirs.as_dict()}


def test_is_a_frozen_dataclass(options):
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.device = "cuda"
    assert {"device", "overridden_args"} <= {field.name for field in dataclasses.fields(options)}
    assert dataclasses.replace(options, device="cuda").device == "cuda"
    assert dataclasses.asdict(options)["jit_module_keys"] == ["a"]
    assert pickle.loads(pickle.dumps(options)) == options == copy.deepcopy(options)


def test_what_was_given_as_a_dictionary_to_write_to():
    options = RunOptions.from_dictionary({"device": "cpu"})
    with pytest.raises(TypeError):
        options["debug"] = True
    run_opts = {name: options[name] for name in options.overridden_args}
    assert run_opts == {"device": "cpu"}


def test_what_is_listed_shares_nothing_with_the_options(options):
    options.as_dict()["tqdm_barcolor"]["train"] = "PINK"
    options.as_dict()["jit_module_keys"].append("b")
    options.as_dict()["overridden_args"].clear()
    assert options.tqdm_barcolor["train"] == "GREEN"
    assert options.jit_module_keys == ["a"]
    assert options.overridden_args


def test_options_of_ours_are_listed_when_given_and_readable_always():
    options = RunOptions.from_dictionary({"trainer": {"devices": 2}})
    assert options["trainer"] == {"devices": 2}
    assert options["move_batch"] is False
    assert "move_batch" in options
    assert "trainer" in [*options.keys()]
    assert "move_batch" not in [*options.keys()]
    assert "trainer" not in RunOptions().as_dict()


def test_objects_for_the_trainer_stay_the_same_objects():
    class Callback:
        def __deepcopy__(self, memo):
            raise AssertionError("copied")

    callback = Callback()
    options = RunOptions.from_dictionary({"trainer": {"callbacks": [callback]}})
    assert options.as_dict()["trainer"]["callbacks"][0] is callback


def test_the_constructor_takes_options_but_does_not_record_them(options):
    made = type(options)(device="cpu")
    assert made.device == "cpu"
    assert made.overridden_args == set()


def test_unknown_name():
    options = RunOptions()
    for kind in (KeyError, AttributeError):
        with pytest.raises(kind, match=r"'devise' is not a run option. Did you mean 'device'"):
            options["devise"]
    assert 3 not in options


def test_names_of_methods_are_no_options():
    assert "keys" in TheirRunOptions()
    assert "keys" not in RunOptions()
    assert RunOptions().get("keys") is None


def test_the_parser_is_not_to_be_had():
    assert hasattr(TheirRunOptions, "_create_parser")
    assert not hasattr(RunOptions, "_create_parser")
    for kind in (TheirRunOptions, RunOptions):
        _, options, _ = kind.from_command_line_args(["h.yaml", "--debug"])
        assert options.debug


def test_unknown_key_in_a_dictionary():
    for kind in (TheirRunOptions, RunOptions):
        with pytest.raises(TypeError, match="precison"):
            kind.from_dictionary({"precison": "bf16"})
    with pytest.raises(TypeError, match="Did you mean 'precision'"):
        RunOptions.from_dictionary({"precison": "bf16"})


def test_from_command_line_args():
    param_file, options, overrides = RunOptions.from_command_line_args(["h.yaml", "--lr=3"])
    assert (param_file, overrides) == ("h.yaml", "lr: 3")
    assert options == RunOptions(param_file="h.yaml")
