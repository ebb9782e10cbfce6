"""What SpeechBrain's loop does with odd recipes, and so does ours. Found by a reviewer."""

from __future__ import annotations

import copy
import functools
import gc
import pickle
import warnings
import weakref
from typing import Any

import pytest
import torch

from brain_lightning import Brain, Checkpointer, Stage


class Recipe(Brain):
    def compute_forward(self, batch: Any, stage: Stage) -> Any:
        return self.modules.model(batch)

    def compute_objectives(self, predictions: Any, batch: Any, stage: Stage) -> Any:
        return predictions.square().mean()


DATA = [torch.ones(6) for _ in range(4)]


def make(recipe: type[Brain] = Recipe) -> Brain:
    return recipe(
        {"model": torch.nn.Linear(6, 3)},
        functools.partial(torch.optim.SGD, lr=0.1),
        run_opts={"noprogressbar": True, "device": "cpu"},
    )


HOOKS = ["on_stage_start", "on_stage_end", "zero_grad", "update_average", "_fit_valid"]


@pytest.mark.parametrize("hook", [*HOOKS, "fit_batch", "evaluate_batch", "on_fit_start"])
def test_stop_iteration_reaches_the_caller(hook: str) -> None:
    def stop(self: Any, *args: Any, **kwargs: Any) -> Any:
        raise StopIteration("the recipe's own")

    brain = make(type("Stops", (Recipe,), {hook: stop}))
    with pytest.raises(StopIteration, match="the recipe's own"):
        brain.fit(range(5), DATA, DATA)


def test_a_brain_may_compare_and_answer_as_it_likes(tmp_path: Any) -> None:
    class Own(Recipe):
        __hash__ = None  # type: ignore[assignment] -- as a dataclass has it

        def __eq__(self, other: object) -> bool:
            return True

        def __len__(self) -> int:
            return 0

        def __getattr__(self, name: str) -> str:
            if name.startswith("_"):
                raise AttributeError(name)
            return name

    class OwnCheckpointer(Checkpointer):
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other: object) -> bool:
            return True

    brain, usual = make(Own), make()
    brain.checkpointer = OwnCheckpointer(tmp_path, {"brain": brain})
    usual.modules.load_state_dict(brain.modules.state_dict())
    for each in (brain, usual):
        each.fit(range(2), DATA, DATA)
        each.evaluate(DATA)
    brain.checkpointer.save_checkpoint()
    assert torch.equal(brain.modules.model.weight, usual.modules.model.weight)


@pytest.mark.parametrize("hparams", [{"lr": 0.1}, None, object()])
def test_hparams_may_be_replaced_by_anything(hparams: object) -> None:
    class Replaces(Recipe):
        def on_fit_start(self) -> None:
            self.hparams = hparams
            super().on_fit_start()

    make(Replaces).fit(range(1), DATA, DATA)


def test_batch_that_is_none_is_a_batch() -> None:
    class Counts(Recipe):
        seen: tuple[Any, ...] = ()

        def fit_batch(self, batch: Any) -> torch.Tensor:
            self.seen = (*self.seen, batch is None)
            return torch.tensor(1.0)

    brain = make(Counts)
    loader = torch.utils.data.DataLoader(
        list(range(6)),  # type: ignore[arg-type]
        collate_fn=lambda items: None if items[0] % 2 else torch.ones(6),
    )
    brain.fit(range(1), loader)
    assert brain.seen == (False, True) * 3


@pytest.mark.parametrize("loss", [{"loss": 0.5, "other": 1.0}, "text", object(), 2, ["a"], None])
def test_fit_batch_may_return_what_update_average_takes(loss: Any) -> None:
    class Returns(Recipe):
        def fit_batch(self, batch: Any) -> Any:
            super().fit_batch(batch)
            return loss

        def update_average(self, loss: Any, avg_loss: Any) -> Any:
            return avg_loss

    brain = make(Returns)
    brain.fit(range(1), DATA)
    assert brain.optimizer_step == len(DATA)


def test_wrapped_override_is_an_override() -> None:
    calls = []

    class Wraps(Recipe):
        @functools.wraps(Brain._fit_valid)
        def _fit_valid(self, *args: Any, **kwargs: Any) -> None:
            calls.append(1)
            super()._fit_valid(*args, **kwargs)

    make(Wraps).fit(range(2), DATA, DATA)
    assert calls == [1, 1]


def test_steps_of_construction_belong_to_the_recipe() -> None:
    names = ["_place_modules", "_choose_device", "_detect_launch", "_shows_bar"]

    def refuse(self: Any) -> None:
        raise AssertionError("not ours")

    make(type("Names", (Recipe,), dict.fromkeys(names, refuse))).fit(range(1), DATA)


def test_brain_is_copied_and_pickled_while_it_runs() -> None:
    class Copies(Recipe):
        def on_stage_end(self, stage: Stage, stage_loss: Any, epoch: int | None = None) -> None:
            self.copies = [copy.deepcopy(self.modules), copy.copy(self)]
            copy.deepcopy(self.__dict__["_brain_lightning"])

    brain = make(Copies)
    brain.fit((epoch for epoch in [0, 1]), DATA)
    pickle.dumps(brain.__dict__["_brain_lightning"])


def test_epoch_counter_is_let_go() -> None:
    class Epochs(list):  # type: ignore[type-arg]
        pass

    epochs = Epochs([1, 2])
    reference = weakref.ref(epochs)
    brain = make()
    brain.fit(epochs, DATA)
    del epochs
    gc.collect()
    assert reference() is None
    assert brain.trainer is not None


def test_warning_of_the_recipe_is_shown_once() -> None:
    class Warns(Recipe):
        def on_stage_start(self, stage: Stage, epoch: int | None = None) -> None:
            warnings.warn("from the recipe", stacklevel=1)

    brain = make(Warns)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(4):
            brain.evaluate(DATA)
    assert sum("from the recipe" in str(each.message) for each in caught) == 1


def test_loader_is_not_asked_again_behind_its_end() -> None:
    class Ends(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return 6

        def __getitem__(self, index: int) -> torch.Tensor:
            if index == 3:
                raise StopIteration
            return torch.ones(6)

    class Counts(Recipe):
        seen = 0

        def evaluate_batch(self, batch: Any, stage: Stage) -> torch.Tensor:
            self.seen += 1
            return super().evaluate_batch(batch, stage)

    brain = make(Counts)
    brain.evaluate(torch.utils.data.DataLoader(Ends()))
    assert brain.seen == 3


def test_fit_under_no_grad_trains() -> None:
    """Not as SpeechBrain, whose backward pass then fails: Lightning switches gradients on."""
    brain = make()
    before = brain.modules.model.weight.detach().clone()
    with torch.no_grad():
        brain.fit(range(1), DATA)
        assert not torch.is_grad_enabled()
    assert not torch.equal(before, brain.modules.model.weight)
