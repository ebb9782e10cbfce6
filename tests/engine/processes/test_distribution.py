"""Strategies that are refused, ignored or handed on at start; no process group is needed."""

from __future__ import annotations

import importlib.util
import logging
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import brain_lightning as sb
from brain_lightning.engine.processes import distribution
from brain_lightning.engine.trainer import placement
from brain_lightning.engine.trainer.strategies import InPlaceProcessGroup
from brain_lightning.engine.trainer.trainer_configuration import make_trainer
from tests.parity.small_recipes import Points, Regression, modules, sgd


class Plain(Regression, sb.Brain):
    pass


class Own(Regression, sb.Brain):
    def fit_batch(self, batch: Any) -> torch.Tensor:
        raise AssertionError


def make(recipe: type[Any], strategy: Any, **options: Any) -> Any:
    run_opts = {"device": "cpu", "noprogressbar": True, **options}
    return recipe(modules(), sgd, {}, run_opts, trainer={"strategy": strategy})


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("LOCAL_RANK", "0")


@pytest.fixture
def with_deepspeed(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec

    def found(name: str, *others: Any) -> Any:
        return object() if name == "deepspeed" else find(name, *others)

    monkeypatch.setattr(distribution.importlib.util, "find_spec", found)


@pytest.mark.parametrize("strategy", ["fsdp2", "whole_module_ddp"])
def test_one_process_alone_trains_as_ever(strategy: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        torch.manual_seed(0)
        brain = make(Plain, strategy)
    assert f"trainer.strategy='{strategy}' is ignored: this is one process alone" in caplog.text
    brain.fit(range(1), Points(4))
    torch.manual_seed(0)
    other = make(Plain, "auto")
    other.fit(range(1), Points(4))
    for one, two in zip(brain.modules.parameters(), other.modules.parameters(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.usefixtures("launched")
def test_a_batch_of_the_recipes_own_has_no_wrapper_around_it() -> None:
    message = r"whole_module_ddp'.*Own overrides fit_batch \(test_distribution.py:\d+\)"
    with pytest.raises(ValueError, match=message):
        make(Own, "whole_module_ddp")


@pytest.mark.parametrize(
    ("strategy", "near"), [("fdsp2", "'fsdp2'"), ("DDP", ""), ("dpp", "'ddp'"), ("ddp_spawn", "")]
)
def test_a_strategy_that_there_is_not(strategy: str, near: str) -> None:
    with pytest.raises(ValueError, match=f"strategy='{strategy}' cannot be had") as raised:
        make(Plain, strategy)
    assert (f"Did you mean {near}?" in str(raised.value)) == bool(near)


@pytest.mark.parametrize("strategy", ["single_device", "ddp_find_unused_parameters_false"])
def test_other_names_in_one_process(strategy: str) -> None:
    make(Plain, strategy).fit(range(1), torch.utils.data.DataLoader(Points(4), 2))


@pytest.mark.parametrize("strategy", ["deepspeed", "deepspeed_stage_3_offload"])
def test_deepspeed_is_not_installed(strategy: str) -> None:
    assert importlib.util.find_spec("deepspeed") is None
    with pytest.raises(ValueError, match="`pip install deepspeed`, or use fsdp2"):
        make(Plain, strategy)


@pytest.mark.usefixtures("with_deepspeed")
def test_deepspeed_steps_itself() -> None:
    message = r"Own overrides fit_batch \(test_distribution.py:\d+\), which Lightning would do"
    with pytest.raises(ValueError, match=message):
        make(Own, "deepspeed_stage_2")


def test_deepspeed_is_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    class TwoHere:
        def local_world_size(self) -> int:
            return 2

        def num_nodes(self) -> int:
            return 1

    monkeypatch.setattr(placement, "ddp_prevent_block", lambda: False)
    monkeypatch.setattr(
        placement,
        "InPlaceProcessGroup",
        lambda device: InPlaceProcessGroup(device, TwoHere()),  # type: ignore[arg-type]
    )
    brain: Any = SimpleNamespace(device="cpu", distributed_launch=True)
    arguments = placement.placement(brain, {"strategy": "deepspeed_stage_2"})
    assert arguments["strategy"] == "deepspeed_stage_2"
    assert (arguments["devices"], arguments["num_nodes"]) == (2, 1)


@pytest.mark.usefixtures("with_deepspeed")
def test_deepspeed_has_its_own_precision_and_clipping(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    brain = make(Plain, "deepspeed", precision="bf16", max_grad_norm=0.5)
    monkeypatch.setattr(
        "brain_lightning.engine.trainer.trainer_configuration.pl.Trainer",
        lambda **arguments: given.update(arguments),
    )
    bar: Any = SimpleNamespace(enabled=False)
    make_trainer(brain, vars(brain)["_brain_lightning"].settings, bar)
    assert given["precision"] == "bf16-mixed"
    assert given["gradient_clip_val"] == 0.5
    assert given["plugins"] == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"wrap": [3]}, "wrap holds 3; give classes or their names"),
        ({"wrap_parameters": 0}, "wrap_parameters=0 is no number of parameters"),
        ({"wrap_parameters": True}, "wrap_parameters=True is no number of parameters"),
        ({"param_dtype": "int8"}, "param_dtype='int8' is none of fp32, bf16, fp16"),
        ({"reduce_dtype": 16}, "reduce_dtype=16 is none of fp32, bf16, fp16"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sb.FSDP2(**settings)


def test_classes_by_name_and_by_themselves() -> None:
    policy = sb.FSDP2(wrap=["Linear", torch.nn.LSTM], param_dtype="bf16")
    assert policy.wraps(torch.nn.Linear(1, 1))
    assert policy.wraps(torch.nn.LSTM(1, 1))
    assert not policy.wraps(torch.nn.GRU(1, 1))
    assert sb.FSDP2(wrap="RNNBase").wraps(torch.nn.GRU(1, 1)), "a base class counts"
    assert policy.param_dtype is torch.bfloat16
