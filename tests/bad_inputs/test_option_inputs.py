"""Options that cannot work are refused in a sentence: given, expected, what to do."""

import pytest
import torch

from brain_lightning.parts.options.resolution import resolve_options

CASES = [
    ({"precision": "fp8"}, "precision is 'fp8'; it can be one of fp32, fp16, bf16"),
    ({"eval_precision": "half"}, "eval_precision is 'half'; it can be one of fp32"),
    ({"precision": "fp16"}, "precision is fp16 and the device is the CPU.*precision=bf16"),
    ({"eval_precision": "fp16"}, "eval_precision is fp16.*CPU.*eval_precision=bf16"),
    ({"auto_mix_prec": True}, "precision is fp16 and the device is the CPU"),
    (
        {"ckpt_interval_minutes": 15, "ckpt_interval_steps": 100},
        "ckpt_interval_minutes is 15 and ckpt_interval_steps is 100; only one.*Set the other",
    ),
    ({"device": "gpu"}, "device is 'gpu', which torch does not know.*cuda:0"),
    ({"device": "cuda:-1"}, "device is 'cuda:-1'"),
    ({"device": ""}, "device is ''"),
    ({"device": 3}, "device is 3 .of type int.; it must be a string"),
    ({"grad_accumulation_factor": 0}, "grad_accumulation_factor is 0; it must be 1"),
    ({"grad_accumulation_factor": 1.5}, "grad_accumulation_factor is 1.5.*an integer"),
    ({"grad_accumulation_factor": True}, "grad_accumulation_factor is True.*an integer"),
    ({"optimizer_step_limit": "many"}, "optimizer_step_limit is 'many'.*an integer"),
    ({"nonfinite_patience": float("nan")}, "nonfinite_patience is nan.*an integer"),
    ({"max_grad_norm": "5"}, "max_grad_norm is '5' .of type str.; it must be a number"),
    ({"max_grad_norm": float("nan")}, "max_grad_norm is nan.*a number"),
    ({"debug": "yes"}, "debug is 'yes' .of type str.; it must be true or false"),
    ({"jit_module_keys": "model"}, "jit_module_keys is 'model'.*a list of strings"),
    ({"jit_module_keys": [1]}, "jit_module_keys is .1..*a list of strings"),
    ({"tqdm_barcolor": "GREEN"}, "tqdm_barcolor is 'GREEN'.*a mapping"),
    ({"distributed_backend": "tcp"}, "distributed_backend is 'tcp'.*nccl, gloo, mpi"),
    ({"compile_mode": "fast"}, "compile_mode is 'fast'.*reduce-overhead"),
    ({"optimization": "both"}, "optimization is 'both'; it can be one of manual, automatic"),
    ({"trainer": 3}, "trainer is 3 .of type int.; it must be a mapping"),
    ({"trainer": ["devices"]}, "trainer is .*of type list.; it must be a mapping"),
]


@pytest.mark.parametrize(("options", "said"), CASES)
@pytest.mark.parametrize("where", ["run_opts", "hparams"])
def test_refused(options, said, where):
    options = {"device": "cpu", **options}
    places = (options, None) if where == "run_opts" else (None, options)
    if where == "hparams" and "optimization" in options:
        return  # see test_hyperparameter_of_the_recipes_own
    with pytest.raises(ValueError, match=said):
        resolve_options(*places)


@pytest.mark.parametrize("name", ["optimization", "move_batch", "val_interval_steps"])
def test_hyperparameter_of_the_recipes_own(name, caplog):
    """A recipe may have had a key of that name before there was an option of ours."""
    values = resolve_options(None, {name: {"my": "own"}, "device": "cpu"}).values
    assert values[name] == resolve_options(None, {"device": "cpu"}).values[name]
    assert f"hyperparameter {name} is not taken" in caplog.text


def test_empty_value_is_the_default():
    values = resolve_options(None, {"ckpt_interval_steps": None, "device": "cpu"}).values
    assert values["ckpt_interval_steps"] == 0


def test_intervals_from_two_places():
    with pytest.raises(ValueError, match="only one of them"):
        resolve_options({"ckpt_interval_steps": 5}, {"ckpt_interval_minutes": 15, "device": "cpu"})


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_device_that_does_not_exist():
    with pytest.raises(ValueError, match=r"'cuda:7', but this machine has no cuda.*--device=cpu"):
        resolve_options({"device": "cuda:7"})


def test_a_device_of_another_kind_that_does_not_exist():
    with pytest.raises(ValueError, match=r"'xpu:0', but this machine has no xpu"):
        resolve_options({"device": "xpu:0"})


def test_constructor_argument_that_is_no_mapping():
    with pytest.raises(ValueError, match=r"trainer is \[1\]"):
        resolve_options({"device": "cpu"}, trainer=[1])


def test_unknown_option():
    with pytest.raises(TypeError, match=r"'devices' is not a run option. Did you mean 'device'"):
        resolve_options({"devices": "cpu"})


def test_run_opts_of_another_kind():
    with pytest.raises(TypeError, match=r"run_opts is a list; it must be RunOptions.* or a dict"):
        resolve_options(["--device", "cpu"])
