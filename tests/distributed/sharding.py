"""One process of several: trains under DDP and under FSDP2, and writes down how the two differ.

python -m tests.distributed.sharding FOLDER [SCENARIO...]
"""

from __future__ import annotations

import json
import sys
import traceback
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import mse_loss

import brain_lightning as sb
from brain_lightning.engine.sharded_modules.fsdp2 import FSDP2
from brain_lightning.parts.checkpoints.sharded_states import is_sharded, whole_state
from tests.distributed.scenarios import still_network
from tests.parity.small_recipes import HIDDEN, INPUTS, OUTPUTS, Points, Regression, network, sgd

adam = partial(torch.optim.Adam, lr=0.01)
Found = dict[str, Any]
SCENARIOS: dict[str, Callable[[Path], Found]] = {}
LOADER = {"batch_size": 2, "shuffle": True}


def scenario(function: Callable[[Path], Found]) -> Callable[[Path], Found]:
    """Register a scenario under its name."""
    SCENARIOS[function.__name__] = function
    return function


class Noting(sb.Brain):
    """Notes each batch's loss."""

    losses: list[float]

    def fit_batch(self, batch: Any) -> torch.Tensor:
        loss = super().fit_batch(batch)
        vars(self).setdefault("losses", []).append(float(loss))
        return loss


class Plain(Regression, Noting):
    """The least that a recipe writes."""


class Automatic(Regression, sb.Brain):
    """Leaves fit_batch alone."""

    def on_fit_batch_end(self, batch: Any, outputs: Any, loss: Any, should_step: bool) -> None:
        vars(self).setdefault("losses", []).append(float(loss))


def make_brain(
    recipe: type[Any],
    modules: dict[str, torch.nn.Module],
    opt_class: Any = adam,
    strategy: Any = "fsdp2",
    checkpointer: Any = None,
    hparams: dict[str, Any] | None = None,
    trainer: dict[str, Any] | None = None,
    **options: Any,
) -> Any:
    run_opts = {"device": "cpu", "noprogressbar": True, "distributed_backend": "gloo", **options}
    arguments = {"strategy": strategy, **(trainer or {})}
    return recipe(modules, opt_class, hparams or {}, run_opts, checkpointer, trainer=arguments)


def rank() -> int:
    return torch.distributed.get_rank()


def difference(left: Any, right: Any) -> float:
    """The greatest difference of two states with the same keys."""
    if isinstance(left, dict):
        assert left.keys() == right.keys(), (left.keys(), right.keys())
        return max((difference(left[key], right[key]) for key in left), default=0.0)
    if isinstance(left, (list, tuple)):
        assert len(left) == len(right), (left, right)
        return max((difference(a, b) for a, b in zip(left, right, strict=True)), default=0.0)
    if isinstance(left, torch.Tensor):
        assert left.shape == right.shape
        return float((left.double() - right.double()).abs().max()) if left.numel() else 0.0
    if isinstance(left, (int, float)) and not isinstance(left, bool):
        return abs(left - right)
    assert left == right, (left, right)
    return 0.0


def plain_state(modules: torch.nn.ModuleDict) -> dict[str, Any]:
    state = whole_state(modules.state_dict())
    return {key.replace(".module.", "."): value for key, value in state.items()}


def compared(
    make: Callable[..., Any],
    policy: Any = "fsdp2",
    epochs: int = 2,
    size: int = 14,
    tested: int = 4,
    optimizers: Callable[[Any], dict[str, Any]] = lambda brain: brain.optimizers_dict,
) -> Found:
    """Train with DDP and with FSDP2 from the same start and on the same data; compare."""
    results = []
    for strategy in ("ddp", policy):
        torch.manual_seed(100 + rank())  # the processes differ at first
        brain = make(strategy)
        brain.fit(range(epochs), Points(size), Points(5, 1), None, LOADER, {"batch_size": 3})
        states = {name: whole_state(each.state_dict()) for name, each in optimizers(brain).items()}
        loss = brain.evaluate(Points(tested, 2), test_loader_kwargs={"batch_size": 2})
        results.append((brain, states, loss, plain_state(brain.modules)))
    (one, _, _, _), (other, _, _, _) = results
    found: Found = {
        "steps": len(other.losses),
        "sharded": is_sharded(other.modules),
        "losses": difference(one.losses, other.losses),
        "evaluated": difference(results[0][2], results[1][2]),
        "local": sum(_local(each) for each in other.modules.parameters()),
        "total": sum(each.numel() for each in other.modules.parameters()),
        "trained": max(other.losses) != min(other.losses),
    }
    if rank() == 0:
        found["optimizers"] = difference(results[0][1], results[1][1])
        found["weights"] = difference(results[0][3], results[1][3])
    return found


def _local(parameter: Any) -> int:
    return int(parameter.to_local().numel() if is_sharded_parameter(parameter) else 0)


def is_sharded_parameter(parameter: Any) -> bool:
    return hasattr(parameter, "to_local")


def model(before: torch.nn.Module | None = None) -> torch.nn.Module:
    """Recurrent, with a buffer and dropout, and with a method besides its forward pass."""
    return Recurrent(before or network())


class Recurrent(torch.nn.Module):
    def __init__(self, before: torch.nn.Module) -> None:
        super().__init__()
        self.before = before
        self.recurrent = torch.nn.LSTM(OUTPUTS, HIDDEN, batch_first=True, bidirectional=True)
        self.norm = torch.nn.LayerNorm(2 * HIDDEN)
        self.out = torch.nn.Linear(2 * HIDDEN, OUTPUTS)

    def encode(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.recurrent(self.before(inputs)[:, None])[0]
        return self.norm(hidden[:, 0])

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.out(self.encode(inputs))
        return outputs


@scenario
def plain(folder: Path) -> Found:
    """With an entry that has nothing to train, and one that has no parameters."""

    class Frozen(Plain):
        def compute_forward(self, batch: Any, stage: Any) -> torch.Tensor:
            return self.modules.model(self.modules.bare(self.modules.frozen(batch[0])))

    def make(strategy: Any) -> Any:
        frozen = torch.nn.Linear(INPUTS, INPUTS).requires_grad_(False)
        torch.nn.init.eye_(frozen.weight)  # not sent to the others, as under DDP
        torch.nn.init.zeros_(frozen.bias)
        bare = torch.nn.Tanh()
        return make_brain(
            Frozen, {"model": model(), "frozen": frozen, "bare": bare}, strategy=strategy
        )

    return compared(make)


@scenario
def accumulation(folder: Path) -> Found:
    """Three batches a step, with a remainder at the end of each epoch, which is dropped."""

    def make(strategy: Any) -> Any:
        options = {"grad_accumulation_factor": 3}
        return make_brain(Plain, {"model": model()}, strategy=strategy, **options)

    return compared(make, size=20, epochs=3)


@scenario
def automatic(folder: Path) -> Found:
    """Lightning steps the optimizer."""

    def make(strategy: Any) -> Any:
        options = {"grad_accumulation_factor": 2, "optimization": "automatic"}
        return make_brain(Automatic, {"model": model()}, strategy=strategy, **options)

    return compared(make, size=20)


@scenario
def whole_module(folder: Path) -> Found:
    """One DDP around the whole batch, beside one for each entry."""

    class Directly(Automatic):
        def compute_forward(self, batch: Any, stage: Any) -> torch.Tensor:
            net = self.modules.model
            if type(net).__name__ == "DistributedDataParallel":
                return super().compute_forward(batch, stage)
            predictions: torch.Tensor = net.out(net.encode(batch[0]))
            return predictions

    def make(strategy: Any) -> Any:
        options = {"grad_accumulation_factor": 2, "optimization": "automatic"}
        return make_brain(Directly, {"model": model()}, strategy=strategy, **options)

    return compared(make, "whole_module_ddp", size=20)


@scenario
def gan(folder: Path) -> Found:
    """Two optimizers, its own fit_batch, its own backward passes."""
    from tests.parity.test_optimization import Adversarial, adversaries

    class Own(Adversarial, sb.Brain):
        run = Library()

        def fit_batch(self, batch: Any) -> torch.Tensor:
            loss = super().fit_batch(batch)
            vars(self).setdefault("losses", []).append(float(loss))
            return loss

    return compared(lambda strategy: make_brain(Own, adversaries(), None, strategy))


class Library:
    """What a recipe of the parity tests looks at."""

    library = sb


@scenario
def clipping(folder: Path) -> Found:
    """The norm of the whole is what is clipped."""

    def make(strategy: Any) -> Any:
        return make_brain(Plain, {"model": model()}, sgd, strategy, max_grad_norm=0.01)

    return compared(make)


@scenario
def bf16(folder: Path) -> Found:
    """By autocast, as under DDP."""

    def make(strategy: Any) -> Any:
        return make_brain(
            Plain, {"model": model()}, strategy=strategy, precision="bf16", eval_precision="bf16"
        )

    return compared(make)


@scenario
def bf16_parameters(folder: Path) -> Found:
    """Parameters are gathered in bf16, gradients exchanged in fp32, no_sync among them."""

    def make(strategy: Any) -> Any:
        options = {"precision": "bf16", "eval_precision": "bf16", "grad_accumulation_factor": 2}
        slow = partial(torch.optim.SGD, lr=0.01)
        return make_brain(Plain, {"model": model()}, slow, strategy, **options)

    return compared(make, FSDP2(param_dtype="bf16", reduce_dtype="fp32"), size=20)


@scenario
def cpu_offload(folder: Path) -> Found:
    def make(strategy: Any) -> Any:
        return make_brain(Plain, {"model": model()}, strategy=strategy, max_grad_norm=0.05)

    return compared(make, FSDP2(cpu_offload=True))


@scenario
def wrapped_by_class(folder: Path) -> Found:
    """Parts are gathered one after the other; the recipe calls two of them by themselves."""

    class Parts(Plain):
        def compute_forward(self, batch: Any, stage: Any) -> torch.Tensor:
            net = self.modules.model
            return net.out(net.norm(net.recurrent(net.before(batch[0])[:, None])[0][:, 0]))

    def make(strategy: Any) -> Any:
        recipe = Plain if strategy == "ddp" else Parts  # DDP knows the forward pass only
        return make_brain(recipe, {"model": model()}, strategy=strategy)

    return compared(make, FSDP2(wrap=["LSTM", torch.nn.Linear]))


class Attending(torch.nn.Module):
    """Transformer layers, an embedding, and weight normalization, old and new."""

    def __init__(self) -> None:
        super().__init__()
        layer = torch.nn.TransformerEncoderLayer(HIDDEN, 2, HIDDEN, 0.1, batch_first=True)
        self.before = torch.nn.utils.weight_norm(torch.nn.Linear(INPUTS, HIDDEN))
        self.place = torch.nn.Embedding(3, HIDDEN)
        self.layers = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(HIDDEN, OUTPUTS))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden = self.before(inputs)[:, None] + self.place(torch.arange(3))
        outputs: torch.Tensor = self.out(self.layers(hidden)[:, 0])
        return outputs


@scenario
def transformer(folder: Path) -> Found:
    """Layers are gathered one at a time, and evaluation is shared out."""

    def make(strategy: Any) -> Any:
        return make_brain(Plain, {"model": Attending()}, strategy=strategy, shard_evaluation=True)

    return compared(make, FSDP2(wrap=["TransformerEncoderLayer"]))


@scenario
def searching(folder: Path) -> Found:
    """As a beam search: the data say how often a batch calls the model. Not shared out then."""

    class Searching(Plain):
        def compute_forward(self, batch: Any, stage: Any) -> torch.Tensor:
            outputs = self.modules.model(batch[0])
            more = 0 if stage == sb.Stage.TRAIN else int(batch[0].abs().sum()) % 3 + 1
            for _ in range(more):
                outputs = self.modules.model(batch[0] + outputs.mean())
            return outputs

    def make(strategy: Any) -> Any:
        return make_brain(Searching, {"model": model()}, strategy=strategy, shard_evaluation=True)

    return compared(make, tested=14)


@scenario
def wrapped_by_size(folder: Path) -> Found:
    """A shared evaluation leaves the buffers as one by all would; training goes on with them."""

    def make(strategy: Any) -> Any:
        return make_brain(Plain, {"model": model()}, strategy=strategy, shard_evaluation=True)

    return compared(make, FSDP2(wrap_parameters=40, reshard_after_forward=False), tested=14)


@scenario
def other_methods(folder: Path) -> Found:
    """Called by another name than forward, through hparams, and as DDP is unwrapped."""

    class Encoding(Plain):
        def compute_forward(self, batch: Any, stage: Any) -> torch.Tensor:
            net = self.modules.model
            if stage == sb.Stage.VALID:
                net = net.module
            elif stage == sb.Stage.TEST:
                net = self.hparams.model
            if type(self.modules.model).__name__ == "DistributedDataParallel":
                return net(batch[0])
            return net.out(net.encode(batch[0]))

    def make(strategy: Any) -> Any:
        net = model(still_network())
        return make_brain(Encoding, {"model": net}, strategy=strategy, hparams={"model": net})

    return compared(make)


@scenario
def shared_parts(folder: Path) -> Found:
    """A list of entries is an entry too, and one entry contains another."""

    class Outer(torch.nn.Module):
        def __init__(self, inner: torch.nn.Module) -> None:
            super().__init__()
            self.inner = inner
            self.last = torch.nn.Linear(OUTPUTS, OUTPUTS)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            outputs: torch.Tensor = self.last(self.inner(inputs))
            return outputs

    class Both(Plain):
        def compute_forward(self, batch: Any, stage: Any) -> torch.Tensor:
            # The inner one first: FSDP2 by itself would refuse that.
            return self.modules.inner(batch[0]) + self.modules.model(batch[0])

    torch.manual_seed(0)
    inner = still_network()
    outer = Outer(inner)
    modules = {"inner": inner, "model": outer, "all": torch.nn.ModuleList([inner, outer])}
    brain = make_brain(Both, modules, sgd)
    batches = [(each.inputs, each.targets) for each in (Points(4, seed) for seed in range(6))]
    world = torch.distributed.get_world_size()
    own: Any = batches[rank() :: world]
    brain.fit(range(2), torch.utils.data.DataLoader(own, batch_size=None))
    torch.manual_seed(0)
    alone = Outer(still_network())
    # One process with the batches of all: equal up to the order of sums.
    optimizer = sgd(alone.parameters())
    for _ in range(2):
        for start in range(0, len(batches), world):
            for inputs, targets in batches[start : start + world]:
                loss = mse_loss(alone.inner(inputs) + alone(inputs), targets)
                (loss / world).backward()
            optimizer.step()
            optimizer.zero_grad()
    state = whole_state(brain.modules.model.state_dict())
    found: Found = {"sharded": is_sharded(outer) and is_sharded(inner)}
    if rank() == 0:
        parameters = dict(alone.named_parameters())
        found["weights"] = difference({k: state[k] for k in parameters}, parameters)
    return found


@scenario
def nonfinite(folder: Path) -> Found:
    """An infinite gradient in one process's part is left out in both."""
    brain = make_brain(Plain, {"model": model()}, sgd, skip_nonfinite_grads=True)
    brain._wrap_distributed()
    brain.init_optimizers()
    brain.modules.model(torch.ones(2, INPUTS)).sum().backward()
    weight: Any = brain.modules.model.out.weight
    if rank() == 1:
        weight.grad.to_local()[0, 0] = float("inf")
    brain.check_gradients()
    rest = [p for name, p in brain.modules.named_parameters() if name != "model.out.weight"]
    return {"left_out": weight.grad is None, "rest": all(p.grad is not None for p in rest)}


@scenario
def scaler(folder: Path) -> Found:
    """The gradient scaler skips a step for both when one process's part is infinite."""
    brain = make_brain(Plain, {"model": model()}, sgd)
    brain._wrap_distributed()
    brain.init_optimizers()
    brain.scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    before = whole_state(dict(brain.modules.named_parameters()))
    found = {}
    for name in ("infinite", "finite"):
        loss = brain.modules.model(torch.ones(2, INPUTS)).sum()
        brain.scaler.scale(loss).backward()
        if name == "infinite" and rank() == 1:
            brain.modules.model.out.weight.grad.to_local()[0, 0] = float("inf")
        brain.optimizers_step()
        after = whole_state(dict(brain.modules.named_parameters()))
        found[name] = brain.scaler.get_scale()
        if rank() == 0:
            found[f"{name} changed"] = difference(before, after) > 0
    return found


@scenario
def called_alone(folder: Path) -> Found:
    """By the main process only, which would wait for the parts of the others."""
    brain = make_brain(Plain, {"model": model()}, sgd)
    brain._wrap_distributed()
    inputs = torch.ones(2, INPUTS)
    try:
        sb.run_on_main(brain.modules.model, [inputs])
        sentence = "nothing"
    except RuntimeError as error:
        sentence = str(error)
    return {"sentence": sentence, "shape": list(brain.modules.model(inputs).shape)}


def refused(make: Callable[[], Any]) -> str:
    try:
        make()
    except ValueError as error:
        return str(error)
    return "nothing"


@scenario
def refusals(folder: Path) -> Found:
    """At start, in a sentence that names what prevents it."""
    from lightning.pytorch.callbacks import StochasticWeightAveraging
    from speechbrain.utils.checkpoints import Checkpointer as TheirCheckpointer

    class Early(Plain):
        def __init__(self, modules: Any, *others: Any, **named: Any) -> None:
            super().__init__(modules, *others, **named)
            self.optimizer = torch.optim.SGD(self.modules.parameters(), lr=0.1)

    class Saved(torch.nn.Linear):
        @sb.mark_as_saver
        def save(self, path: Any) -> None:
            raise AssertionError

    sb.register_checkpoint_hooks(Saved)
    own = Saved(2, 2)
    checkpointer = sb.Checkpointer(folder / "own", {"own": own})
    tied, scalar = [torch.nn.Linear(2, 2) for _ in range(2)], torch.nn.Linear(2, 2)
    tied[1].weight = tied[0].weight
    scalar.gain = torch.nn.Parameter(torch.tensor(1.0))
    loader = [(torch.ones(2, INPUTS), torch.ones(2, OUTPUTS))]

    def wrapped(**entries: torch.nn.Module) -> Any:
        return lambda policy="fsdp2", **more: make_brain(
            Plain, entries, sgd, policy, **more
        )._wrap_distributed()

    return {
        "early": refused(lambda: make_brain(Early, {"m": model()}).fit(range(1), loader)),
        "callback": refused(
            lambda: make_brain(
                Plain, {"m": model()}, trainer={"callbacks": [StochasticWeightAveraging(0.1)]}
            )
        ),
        "checkpointer": refused(
            lambda: make_brain(
                Plain, {"m": model()}, checkpointer=TheirCheckpointer(folder / "theirs")
            )
        ),
        "dtype": refused(lambda: make_brain(Plain, {}, strategy=FSDP2(param_dtype="bf16"))),
        "tied": refused(wrapped(one=tied[0], two=tied[1])),
        "scalar": refused(wrapped(one=scalar)),
        "class": refused(lambda: wrapped(one=model())(FSDP2(wrap=["Conformer"]))),
        "jit": refused(wrapped(one=torch.jit.script(torch.nn.Linear(2, 2)))),
        "own": refused(lambda: wrapped(one=own)(checkpointer=checkpointer)),
        "whole": refused(lambda: make_brain(Plain, {"m": model()}, strategy="whole_module_ddp")),
        "other": refused(
            lambda: make_brain(Plain, {"m": model()}, strategy="xla").fit(range(1), loader)
        ),
    }


def perform(folder: Path, names: list[str]) -> None:
    """Perform the scenarios and leave what each found in ``folder``."""
    found = {}
    for name in names:
        print(f"--- {name}", flush=True)
        try:
            found[name] = SCENARIOS[name](folder / name)
        except BaseException:
            traceback.print_exc()
            found[name] = {"error": traceback.format_exc()}
            if "OtherProcess" in found[name]["error"]:
                raise
        (folder / f"found-{rank()}.json").write_text(json.dumps(found))
        torch.distributed.barrier()


def main(folder: Path, names: list[str]) -> None:
    warnings.simplefilter("ignore")
    sb.ddp_init_group({"distributed_backend": "gloo"})
    perform(folder, names)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] or list(SCENARIOS))
