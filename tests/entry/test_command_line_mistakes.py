"""Mistakes on the command line of a run: what is said, and what is left to the recipe."""

import sys
from types import SimpleNamespace

import pytest

from brain_lightning.entry import run_recipe as run_recipe_module
from brain_lightning.entry.command_line import main
from brain_lightning.entry.run_recipe import run_recipe

RECIPE = """\
import os
import sys
import speechbrain as sb
from hyperpyyaml import load_hyperpyyaml

if __name__ == "__main__":
    hparams_file, run_opts, overrides = sb.parse_arguments(sys.argv[1:])
    with open(hparams_file) as file:
        hparams = load_hyperpyyaml(file, overrides)
    brain = sb.Brain({}, run_opts=run_opts, hparams=hparams)
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a recipe beside h.yaml, as the program does, and put the process back afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    at_exit = []
    monkeypatch.setattr(run_recipe_module, "atexit", SimpleNamespace(register=at_exit.append))

    def run(*arguments, recipe=RECIPE):
        (tmp_path / "train.py").write_text(recipe, encoding="utf-8")
        (tmp_path / "h.yaml").write_text("lr: 0.1\nepochs: 2\n", encoding="utf-8")
        return main(["run", "train.py", *arguments])

    yield run
    for function in reversed(at_exit):
        function()


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("--precison", "--precision"),
        ("--optimizaton", "--optimization"),
        ("--traner.max_steps", "--trainer.max_steps"),
        ("--epoch", "--epochs"),
    ],
)
@pytest.mark.skipif(sys.version_info < (3, 11), reason="errors have no notes there")
def test_an_override_of_nothing_has_a_hint(run, given, meant):
    with pytest.raises(KeyError) as raised:
        run("h.yaml", given, "3")

    (note,) = raised.value.__notes__
    assert note.startswith(f"{given} is no run option")
    assert note.endswith(f"Did you mean {meant}?")


@pytest.mark.parametrize(
    "error", ["KeyError()", "KeyError(3)", """KeyError("Override 'a' not found in: []")"""]
)
def test_other_key_errors_are_left_as_they_are(run, error):
    with pytest.raises(KeyError) as raised:
        run("h.yaml", recipe=f"raise {error}\n")

    assert not hasattr(raised.value, "__notes__")


def test_a_file_of_hyperparameters_that_is_not_there(run, tmp_path, capsys):
    assert run("hh.yaml") == 1

    said = capsys.readouterr().err
    assert said == (
        "brain-lightning run: error: There is no file of hyperparameters 'hh.yaml' (looked for at "
        f"{tmp_path / 'hh.yaml'}). Did you mean 'h.yaml'?\n"
    )


def test_a_recipe_may_make_its_file(run):
    made = "from pathlib import Path\nPath('made.yaml').write_text('a: 1', encoding='utf-8')\n"

    assert run("made.yaml", recipe=made + RECIPE) == 0


OTHERS = {
    "another file": "open('nothing.yaml')",
    "in a module": "import pathlib; pathlib.Path('hh.yaml').read_text()",
    "a hook of the recipe's": "import sys; sys.excepthook = print; open('hh.yaml')",
    "made and gone": "raise FileNotFoundError(2, 'no', 'h.yaml')",
}


@pytest.mark.parametrize("case", OTHERS)
def test_another_missing_file_is_the_recipes_error(run, case):
    with pytest.raises(FileNotFoundError, match=r"No such file|no"):
        run("h.yaml" if case == "made and gone" else "hh.yaml", recipe=OTHERS[case])


def test_several_processes_hear_of_the_error_itself(run, monkeypatch):
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(FileNotFoundError, match="No such file"):
        run("hh.yaml", recipe="open('hh.yaml')")


def test_in_a_process_of_somebody_elses_the_error_is_the_recipes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text("open('hh.yaml')", encoding="utf-8")

    with pytest.raises(FileNotFoundError, match="No such file"):
        run_recipe("train.py", ["hh.yaml"])


def test_an_option_trainer_of_the_recipes_own(run, capsys):
    own = "import argparse, sys\np = argparse.ArgumentParser()\np.add_argument('--trainer')\n"

    assert run("--trainer", "fast", recipe=f"{own}print(p.parse_args())") == 0
    assert "trainer='fast'" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        run("h.yaml", "--trainer", "fast", recipe=own + "p.parse_known_args()\n" + RECIPE)
    assert ended.value.code == 2
    assert "An option of the recipe's own must have another name" in capsys.readouterr().err


MISTAKES = {
    "max_step=3": "lightning.Trainer has no argument 'max_step'. Did you mean 'max_steps'?",
    "max_steps=abc": "max_steps is 'abc' (of type str); it must be an integer",
    "logger=tensorbord": "Did you mean 'tensorboard'?",
    "strategy=fdsp2": "Did you mean 'fsdp2'?",
    "logger=[csv, wandb]": "pip install 'brain-lightning[wandb]'",
}


@pytest.mark.parametrize("devices", [(), ("--trainer.devices=2", "--device=cpu")])
@pytest.mark.parametrize("given", MISTAKES)
def test_wrong_trainer_arguments_are_one_line_and_status_2(
    run, monkeypatch, capsys, given, devices
):
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setattr("os.execv", lambda *started: pytest.fail("it was started"))
    status = []
    try:
        status.append(run("h.yaml", f"--trainer.{given}", *devices))
    except SystemExit as ended:
        status.append(ended.code)

    assert status == [2]
    said = capsys.readouterr().err.splitlines()
    assert MISTAKES[given] in said[-1]
    assert said[-1].startswith("brain-lightning run: error: " if devices else "train.py: error: ")
    assert devices or len(said) == 1


@pytest.mark.parametrize("given", ["max_epochs=3", "precision=16-mixed", "strategy=ddp_spawn"])
def test_what_a_trainer_of_the_recipes_own_may_take_is_left_to_it(run, given, capsys):
    recipe = (
        "import sys\nimport speechbrain as sb\nprint(sb.parse_arguments(sys.argv[1:])[1].trainer)"
    )

    assert run("h.yaml", f"--trainer.{given}", recipe=recipe) == 0
    assert given.partition("=")[0] in capsys.readouterr().out


OWNED = {
    "max_epochs=3": "the epoch counter given to fit() says how many epochs there are",
    "precision=16": "Set 'precision' instead of trainer.precision.",
    "strategy=ddp_spawn": "'ddp_spawn'",
}


@pytest.mark.parametrize("given", OWNED)
def test_what_the_recipe_or_a_run_option_says_is_one_line_and_status_2(run, given, capsys):
    with pytest.raises(SystemExit) as ended:
        run("h.yaml", f"--trainer.{given}", "--device=cpu")

    assert ended.value.code == 2
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith("train.py: error: trainer: ")
    assert OWNED[given] in said[-1]
    assert "Traceback" not in "".join(said)


def test_in_code_it_is_a_value_error(run):
    in_code = RECIPE.replace("hparams=hparams)", "hparams={'trainer': {'max_epochs': 3}})")

    with pytest.raises(ValueError, match="the epoch counter given to fit") as raised:
        run("h.yaml", "--device=cpu", recipe=in_code)

    assert not isinstance(raised.value, SystemExit)


def test_in_a_file_they_are_the_recipes_error(run, tmp_path):
    (tmp_path / "own.yaml").write_text("trainer: {max_step: 1}\n", encoding="utf-8")

    with pytest.raises(ValueError, match="Did you mean 'max_steps'"):
        run("own.yaml")
