"""Running a script in this process: what it finds, what it raises, and what is left."""

import os
import subprocess
import sys
import textwrap

import pytest
import speechbrain

from brain_lightning.entry import run_recipe as run_recipe_module
from brain_lightning.entry.run_recipe import RecipeNotFoundError, run_recipe
from brain_lightning.entry.script_process import script_frames
from brain_lightning.ground.errors import MissingExtraError


@pytest.fixture
def recipe(tmp_path):
    """Write a recipe, and a module beside it, into a folder of their own."""

    def write(text, beside=""):
        folder = tmp_path / "recipes"
        folder.mkdir(exist_ok=True)
        (folder / "beside.py").write_text(textwrap.dedent(beside), encoding="utf-8")
        path = folder / "train.py"
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    return write


def test_the_recipe_finds_itself_as_the_program(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = recipe(
        """
        import os, pickle, sys
        import beside
        class Example: pass
        with open("found.txt", "w") as file:
            print(__name__, __file__, sys.argv, sys.path[0], beside.VALUE, os.getcwd(), file=file)
            print(type(pickle.loads(pickle.dumps(Example()))) is Example, file=file)
            print(sys.modules["__main__"].Example is Example, __spec__, __annotations__, file=file)
        """,
        beside="VALUE = 'from beside'",
    )
    run_recipe("recipes/train.py", ["hparams.yaml", "--lr", "0.1"])

    first, second, third = (tmp_path / "found.txt").read_text().splitlines()
    assert first == (
        f"__main__ {path} ['recipes/train.py', 'hparams.yaml', '--lr', '0.1'] {path.parent} "
        f"from beside {os.getcwd()}"
    )
    assert (second, third) == ("True", "True None {}")


def test_what_a_script_can_see_of_us(recipe, tmp_path, capsys):
    text = "import inspect, os; print([frame.filename for frame in inspect.stack()][0] == __file__)"
    below = "print(len(inspect.stack()) > 1, os.environ['PYTORCH_NVML_BASED_CUDA_CHECK'])"
    run_recipe(recipe(f"from brain_lightning import Brain\n{text}\n{below}"))

    assert capsys.readouterr().out.split() == ["True", "True", "1"]


@pytest.mark.long
def test_spawned_processes_have_speechbrains_names(recipe):
    text = """
        import multiprocessing
        import speechbrain as sb
        from brain_lightning import Brain
        def names(stage):
            return sb.Brain is Brain, stage == sb.Stage.TRAIN, stage is sb.Stage.TRAIN
        if __name__ == "__main__":
            for method in ("spawn", "fork"):
                with multiprocessing.get_context(method).Pool(1) as pool:
                    print(*pool.apply(names, (sb.Stage.TRAIN,)))
    """
    path = recipe(text)
    command = [sys.executable, "-m", "brain_lightning", "run", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)

    assert done.stdout.splitlines() == ["False True False", "True True True"], done.stderr


def test_the_process_is_left_as_it_was(recipe):
    path = recipe("import beside, sys\nsys.path.append('x')\nsys.argv.append('y')")
    before = (sys.modules["__main__"], list(sys.argv), list(sys.path))

    run_recipe(path)

    assert (sys.modules["__main__"], sys.argv, sys.path) == before
    assert "beside" not in sys.modules
    assert speechbrain.Brain.__module__ == "speechbrain.core"


def test_two_recipes_have_each_their_own_modules(recipe, tmp_path, capsys):
    run_recipe(recipe("import beside; print(beside.VALUE)", beside="VALUE = 'first'"))
    (tmp_path / "recipes").rename(tmp_path / "others")
    run_recipe(recipe("import beside; print(beside.VALUE)", beside="VALUE = 'second'"))

    assert capsys.readouterr().out.split() == ["first", "second"]


@pytest.mark.parametrize(
    "way",
    [
        "import speechbrain as sb; found = sb.Brain",
        "import speechbrain as sb; found = sb.core.Brain",
        "from speechbrain import Brain as found",
        "from speechbrain.core import Brain as found",
        "import speechbrain.core; found = speechbrain.core.Brain",
        "from hyperpyyaml import load_hyperpyyaml as l\n"
        "found = l('x: !name:speechbrain.core.Brain')['x']",
        "from hyperpyyaml import load_hyperpyyaml as l\n"
        "found = type(l('x: !new:speechbrain.utils.checkpoints.Checkpointer\\n"
        "    checkpoints_dir: save')['x'])",
        "from hyperpyyaml import load_hyperpyyaml as l\n"
        "found = l('x: !apply:speechbrain.utils.distributed.if_main_process []')['x']\n"
        "import speechbrain.utils.distributed as d; found = d.if_main_process",
        "from speechbrain.utils.distributed import run_on_main as found",
        "import speechbrain as sb; found = sb.utils.distributed.ddp_init_group",
        "from speechbrain.dataio.dataloader import SaveableDataLoader as found",
        "import speechbrain as sb; found = sb.parse_arguments",
    ],
)
def test_names_are_ours_however_imported(recipe, way, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_recipe(recipe(f"{way}\nprint(found.__module__.split('.')[0])"))

    assert capsys.readouterr().out == "brain_lightning\n"


def test_what_the_recipe_raises_is_raised(recipe):
    with pytest.raises(SystemExit) as exit_info:
        run_recipe(recipe("import sys; sys.exit(7)"))
    assert exit_info.value.code == 7

    with pytest.raises(ZeroDivisionError):
        run_recipe(recipe("1 / 0"))
    assert speechbrain.Brain.__module__ == "speechbrain.core"


@pytest.mark.parametrize("content", [b"# caf\xe9\n", b"x = '\xe9'\n", b"#\n\n# \xff\n"])
def test_a_file_that_is_no_text_is_refused_as_by_the_interpreter(tmp_path, content):
    path = tmp_path / "train.py"
    path.write_bytes(content)

    with pytest.raises(SyntaxError):
        run_recipe(path)

    native = subprocess.run([sys.executable, str(path)], capture_output=True, text=True)
    assert "SyntaxError" in native.stderr


@pytest.mark.parametrize("text", ["if True\n", "x = 1\n  y = 2\n", "x = '\0'\n"])
def test_a_script_that_is_no_python_is_reported_without_our_frames(recipe, text):
    with pytest.raises((SyntaxError, ValueError)) as error_info:
        run_recipe(recipe(text))
    assert script_frames(error_info.value.__traceback__) is None


def test_a_missing_recipe_is_refused(tmp_path):
    with pytest.raises(RecipeNotFoundError, match=r"There is no recipe .*nothing\.py"):
        run_recipe(tmp_path / "nothing.py")


def test_the_extra_is_named_when_the_recipe_needs_speechbrain(recipe, monkeypatch):
    monkeypatch.setattr(run_recipe_module, "is_speechbrain_installed", lambda: False)
    monkeypatch.setitem(sys.modules, "speechbrain", None)

    with pytest.raises(MissingExtraError, match=r"recipe .*train\.py needs .*\[speechbrain\]"):
        run_recipe(recipe("import speechbrain"))


def test_a_recipe_without_speechbrain_runs_where_there_is_none(recipe, monkeypatch, capsys):
    monkeypatch.setattr(run_recipe_module, "is_speechbrain_installed", lambda: False)

    run_recipe(recipe("from brain_lightning import Stage; print(Stage.TRAIN.name)"))

    assert capsys.readouterr().out == "TRAIN\n"


def test_another_missing_module_is_reported_as_it_is(recipe):
    with pytest.raises(ModuleNotFoundError, match="no_such_module") as error_info:
        run_recipe(recipe("import no_such_module"))
    assert not isinstance(error_info.value, MissingExtraError)


def test_arguments_for_the_trainer_reach_the_brain(recipe, capsys):
    text = """
    import sys
    import speechbrain as sb
    file, run_opts, overrides = sb.parse_arguments(sys.argv[1:])
    print(file, overrides, run_opts["trainer"])
    brain = sb.Brain(run_opts=run_opts)
    brain.fit(range(0), [0])
    print(brain.trainer.limit_train_batches)
    """
    arguments = ["h.yaml", "--device", "cpu", "--lr", "1", "--trainer.limit_train_batches", "3"]

    run_recipe(recipe(text), arguments)

    assert capsys.readouterr().out.splitlines()[-2:] == [
        "h.yaml lr: 1 {'limit_train_batches': 3}",
        "3",
    ]
