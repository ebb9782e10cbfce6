import pytest
import torch
from speechbrain.utils.autocast import AMPConfig
from speechbrain.utils.autocast import TorchAutocast as TheirAutocast

from brain_lightning.parts.precision.autocast import TorchAutocast, dtype_of_precision


def product():
    return torch.ones(2, 2) @ torch.ones(2, 2)


@pytest.mark.parametrize("name", ["fp32", "fp16", "bf16", None])
def test_names(name):
    assert dtype_of_precision(name) is AMPConfig.from_name(name).dtype


@pytest.mark.parametrize("name", ["fp8", "FP32", 16, [], "bf16-mixed"])
def test_unknown_names(name):
    with pytest.raises(ValueError, match=r"The precision is .*one of fp32, fp16, bf16"):
        dtype_of_precision(name)


@pytest.mark.parametrize("kind", [TheirAutocast, TorchAutocast])
def test_fp32_changes_nothing(kind):
    outside = torch.autocast("cpu", dtype=torch.bfloat16)
    with outside, kind(device_type="cpu", dtype=torch.float32):
        # not even an autocast that the recipe turned on itself
        assert product().dtype is torch.bfloat16


@pytest.mark.parametrize("kind", [TheirAutocast, TorchAutocast])
def test_bf16_can_be_entered_again(kind):
    context = kind(device_type="cpu", dtype=torch.bfloat16)
    for _ in range(3):
        with context:
            assert product().dtype is torch.bfloat16
        assert product().dtype is torch.float32


def test_bf16_can_be_entered_inside_itself():
    context = TorchAutocast(device_type="cpu", dtype=torch.bfloat16)
    for _ in range(2):
        with context:
            with context, context:
                assert product().dtype is torch.bfloat16
            assert product().dtype is torch.bfloat16
        assert product().dtype is torch.float32


def test_an_error_inside_goes_on_and_autocast_ends():
    context = TorchAutocast(device_type="cpu", dtype=torch.bfloat16)
    with pytest.raises(KeyError), context:
        raise KeyError
    assert not torch.is_autocast_enabled("cpu")
    with context:
        assert product().dtype is torch.bfloat16


def test_options_reach_torch():
    context = TorchAutocast("cpu", dtype=torch.bfloat16, enabled=False)
    with context:
        assert product().dtype is torch.float32


@pytest.mark.parametrize("arguments", [(), ("cpu",), ("cpu", torch.bfloat16), ("nothing",)])
@pytest.mark.parametrize("kind", [TheirAutocast, TorchAutocast])
def test_without_a_dtype_by_name_nothing_changes(kind, arguments):
    with kind(*arguments):
        assert product().dtype is torch.float32
