"""The program itself, as processes beside `python train.py`."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from brain_lightning import Checkpointer, EpochCounter
from brain_lightning.entry.closed_pipe import STATUS
from brain_lightning.entry.command_line import COMMANDS, main

SCRIPT = Path(sys.executable).with_name("brain-lightning")
NATIVE = [sys.executable]
OURS = [sys.executable, "-m", "brain_lightning", "run"]

RECIPE = """
import atexit
import os
import signal
import sys
import torch
import beside
import speechbrain as sb
from speechbrain.core import Brain

class Data(torch.utils.data.Dataset):
    def __len__(self): return 2
    def __getitem__(self, index): return Example(index)

class Example:
    def __init__(self, index): self.index = index

def fail():
    raise ValueError("on purpose")

def in_main():
    return sys.modules["__main__"].Example is Example and issubclass(sb.Brain, Brain)

if __name__ == "__main__":
    atexit.register(lambda: print("at exit", in_main()))
    print(sys.argv, __file__, beside.VALUE, os.getcwd(), sys.path[0])
    how = sys.argv[1]
    if how == "workers":
        loader = torch.utils.data.DataLoader(
            Data(), num_workers=1, collate_fn=list, multiprocessing_context=sys.argv[2]
        )
        print([example.index for batch in loader for example in batch])
    elif how == "raise": fail()
    elif how == "exit": sys.exit(int(sys.argv[2]))
    elif how == "say": sys.exit("a last word")
    elif how == "interrupt": raise KeyboardInterrupt
    elif how == "kill": os.kill(os.getpid(), signal.SIGTERM)
    elif how == "hparams": print(sb.parse_arguments(sys.argv[2:])[0])
"""


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "recipe"
    folder.mkdir()
    (folder / "train.py").write_text(RECIPE, encoding="utf-8")
    (folder / "beside.py").write_text("VALUE = 'from beside'", encoding="utf-8")

    def run(program, *arguments):
        return subprocess.run(
            [*program, "recipe/train.py", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


@pytest.mark.parametrize(
    "arguments",
    [
        ["raise"],
        pytest.param(["interrupt"], marks=pytest.mark.long),
        ["workers", "fork"],
        pytest.param(["workers", "spawn"], marks=pytest.mark.long),
        pytest.param(["exit", "7"], marks=pytest.mark.long),
        pytest.param(["say"], marks=pytest.mark.long),
        pytest.param(["kill"], marks=pytest.mark.long),
    ],
    ids=" ".join,
)
def test_output_traceback_and_exit_status_are_as_with_python(run, arguments):
    native, ours = run(NATIVE, *arguments), run(OURS, *arguments)

    assert ours.returncode == native.returncode
    assert ours.stdout == native.stdout
    assert _without_warnings(ours.stderr) == _without_warnings(native.stderr)


def _without_warnings(text):
    """From the traceback on; SpeechBrain and the tools of torch warn before it."""
    found = re.search(r"^(Traceback|a last word)", text, flags=re.MULTILINE)
    return text[found.start() :] if found else ""


def test_the_recipes_help_and_errors_are_those_of_its_options(run):
    usage = run(OURS, "hparams", "--help")

    assert usage.returncode == 0
    assert "usage: train.py" in usage.stdout
    assert "--trainer.KEY VALUE" in usage.stdout


@pytest.mark.long
@pytest.mark.skipif(not SCRIPT.exists(), reason="the program is not installed beside python")
def test_the_installed_program_is_the_same(run):
    ours = run([str(SCRIPT), "run"], "exit", "7")

    assert ours.returncode == 7
    assert "['recipe/train.py', 'exit', '7']" in ours.stdout
    assert ours.stdout.endswith("at exit True\n")


def test_a_wrong_command_line_is_refused_with_the_usage(capsys, tmp_path):
    assert main([]) == 2
    assert "a command is missing" in capsys.readouterr().err
    assert main(["walk"]) == 2
    assert "there is no command 'walk'" in capsys.readouterr().err
    assert main(["run"]) == 2
    assert "the recipe comes first" in capsys.readouterr().err
    assert main(["run", "--device", "cpu"]) == 2
    assert "found the option --device" in capsys.readouterr().err
    assert main(["run", str(tmp_path / "nothing.py")]) == 2
    assert "There is no recipe" in capsys.readouterr().err


def test_help_names_every_command(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert command.usage in text
        assert main([name, "--help"]) == 0
        assert f"usage: brain-lightning {name}" in capsys.readouterr().out


def test_version(capsys):
    from brain_lightning import __version__

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"brain-lightning {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        pytest.param(["run", "--help"], marks=pytest.mark.long),
        pytest.param(["doctor", "train.py"], marks=pytest.mark.long),
        pytest.param(["doctor", "--ranks", "--json"], marks=pytest.mark.long),
        ["convert", "--list", "CKPT+first"],
    ],
    ids=" ".join,
)
def test_a_reader_that_goes_is_no_error(tmp_path, arguments):
    (tmp_path / "train.py").write_text("import speechbrain as sb\n", encoding="utf-8")
    if arguments[0] == "convert":
        Checkpointer(tmp_path, {"counter": EpochCounter(1)}).save_checkpoint(name="first")
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "brain_lightning", *arguments]
    try:
        ended = subprocess.run(
            command, cwd=tmp_path, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=120
        )
    finally:
        os.close(writer)

    assert (ended.returncode, ended.stderr) == (STATUS, "")
