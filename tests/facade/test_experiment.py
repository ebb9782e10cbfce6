"""create_experiment_directory beside SpeechBrain's, in programs of their own."""

import re
import subprocess
import sys
from pathlib import Path

import hyperpyyaml
import pytest
import yaml

from brain_lightning.facade import experiment
from brain_lightning.facade.experiment import DEFAULT_LOG_CONFIG, create_experiment_directory
from brain_lightning.facade.hyperparameter_file import resolved_hyperparameters

HYPERPARAMETERS = """\
# A comment stays.
seed: 1
folder: results/<seed>
output: !ref <folder>/<seed>
model: !new:torch.nn.Linear
    in_features: 3
    out_features: !ref <seed>
"""
SCRIPT = """\
import sys
from {module} import create_experiment_directory

def main():
    {call}
    {after}

main()
"""
CALL = "create_experiment_directory('out', 'h.yaml', 'seed: 5', save_env_desc=False)"
THEIRS, OURS = "speechbrain.core", "brain_lightning.facade.experiment"


@pytest.fixture
def program(tmp_path):
    """Run a program that makes an experiment folder; return its folder and how it ended."""

    def run(module=OURS, call=CALL, after="pass", interpreter=()):
        folder = tmp_path / module.partition(".")[0]
        folder.mkdir(exist_ok=True)
        (folder / "h.yaml").write_text(HYPERPARAMETERS)
        script = SCRIPT.format(module=module, call=call, after=after)
        (folder / "train.py").write_text(script)
        ended = subprocess.run(
            [sys.executable, *(interpreter or ["train.py"])],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=120,
        )
        return folder / "out", ended

    return run


def without_names(text):
    """Make equal what may differ: folders, library names, times."""
    text = re.sub(r"speechbrain|brain_lightning", "LIBRARY", text, flags=re.IGNORECASE)
    text = re.sub(r"LIBRARY\.(core|facade\.\w+)", "LIBRARY", text)
    # SpeechBrain has forgotten the end of the line there.
    text = text.replace("Could not get git revision=", "Could not get git revision\n=")
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+", "TIME", text)


def info_lines(log):
    lines = without_names(log.read_text()).splitlines()
    # Native SpeechBrain reports its own quirks; it has logged what pip said, too.
    return [line for line in lines if " INFO - " in line and "quirks" not in line]


def test_files_are_speechbrains(program):
    call = "create_experiment_directory('out', 'h.yaml', 'seed: 5')"
    theirs, their_end = program(THEIRS, call)
    ours, our_end = program(OURS, call)
    assert their_end.returncode == our_end.returncode == 0, our_end.stderr
    names = {"hyperparams.yaml", "train.py", "log.txt", "env.log"}
    assert {path.name for path in ours.iterdir()} == names
    assert {path.name for path in theirs.iterdir()} == names
    for name in ("hyperparams.yaml", "env.log"):
        assert without_names((ours / name).read_text()) == without_names(
            (theirs / name).read_text()
        )
    assert (ours / "train.py").read_text() == (ours.parent / "train.py").read_text()
    assert info_lines(ours / "log.txt") == info_lines(theirs / "log.txt")
    assert len(info_lines(ours / "log.txt")) == 2
    assert "seed: 5\n" in (ours / "hyperparams.yaml").read_text()


@pytest.mark.parametrize(
    "overrides", [{"seed": 5}, "seed: 5", "", {}, None, "model: {in_features: 9}"]
)
def test_hyperparameters_are_what_hyperpyyaml_makes_of_them(tmp_path, overrides):
    (tmp_path / "part.yaml").write_text("lr: 1")
    path = tmp_path / "h.yaml"
    path.write_text(HYPERPARAMETERS + "part: !include:part.yaml\n")
    with open(path) as stream:
        theirs = hyperpyyaml.resolve_references(stream, overrides).getvalue()
    assert resolved_hyperparameters(path, overrides) == theirs
    assert "lr: 1" in theirs


def test_without_hyperparameters_and_environment(program):
    folder, ended = program(call="create_experiment_directory('out', save_env_desc=False)")
    assert ended.returncode == 0, ended.stderr
    assert {path.name for path in folder.iterdir()} == {"train.py", "log.txt"}


def test_an_uncaught_exception_is_logged_and_seen_once(program):
    ends = {}
    for module in (THEIRS, OURS):
        folder, ends[module] = program(module, after="raise ValueError('broken')")
        log = (folder / "log.txt").read_text()
        assert "ERROR - Exception:\nTraceback" in log
        assert "ValueError: broken" in log
    assert ends[OURS].returncode == ends[THEIRS].returncode == 1
    for stream in ("stdout", "stderr"):
        ours, theirs = (getattr(ends[module], stream) for module in (OURS, THEIRS))
        assert ours.count("Traceback") == theirs.count("Traceback")
    shown = ends[OURS].stdout + ends[OURS].stderr
    assert shown.count("Traceback") == 1


def test_an_interrupt_is_logged_and_keeps_its_status(program):
    folder, ended = program(after="raise KeyboardInterrupt")
    assert "KeyboardInterrupt" in (folder / "log.txt").read_text()
    plain = subprocess.run(
        [sys.executable, "-c", "raise KeyboardInterrupt"], capture_output=True, check=False
    )
    assert ended.returncode == plain.returncode


def test_a_hook_that_somebody_else_set_still_runs(program):
    call = "sys.excepthook = lambda *error: print('theirs:', error[1]); " + CALL.format(
        overrides="{}"
    )
    folder, ended = program(call=call, after="raise ValueError('broken')")
    assert "theirs: broken" in ended.stdout
    assert "ValueError: broken" in (folder / "log.txt").read_text()


QUIET = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"file_handler": {"class": "logging.FileHandler", "filename": "x"}},
    "root": {"level": "INFO", "handlers": ["file_handler"]},
}


def test_an_exception_is_seen_although_the_log_goes_to_a_file_only(program, tmp_path):
    config = tmp_path / "quiet.yaml"
    config.write_text(yaml.safe_dump(QUIET))
    call = f"create_experiment_directory('out', log_config={str(config)!r}, save_env_desc=False)"
    folder, ended = program(call=call, after="raise ValueError('broken')")
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr.count("ValueError: broken") == 1
    assert "ValueError: broken" in (folder / "log.txt").read_text()


@pytest.mark.parametrize(
    ("contents", "said"),
    [(None, "There is no logging configuration"), ({**QUIET, "handlers": {}}, "no handler called")],
)
def test_a_configuration_that_writes_no_log_file_is_reported(program, tmp_path, contents, said):
    config = tmp_path / "other.yaml"
    if contents is not None:
        config.write_text(yaml.safe_dump({**contents, "root": {"level": "INFO"}}))
    call = f"create_experiment_directory('out', log_config={str(config)!r}, save_env_desc=False)"
    folder, ended = program(call=call)
    assert ended.returncode == 0
    assert said in ended.stderr
    assert not (folder / "log.txt").exists()
    assert (folder / "train.py").exists()


def test_the_script_is_found_through_wrappers(program):
    call = (
        "from brain_lightning.ground.ranks import run_on_main; "
        "run_on_main(create_experiment_directory, ['out', 'h.yaml'], {'save_env_desc': False})"
    )
    folder, ended = program(call=call)
    assert ended.returncode == 0, ended.stderr
    assert (folder / "train.py").exists()
    assert not [*folder.glob("*.py")][1:]


def test_no_script_is_copied_where_there_is_none(program):
    code = f"from {OURS} import create_experiment_directory as c; c('out', None, None, None, False)"
    folder, ended = program(interpreter=["-c", code])
    assert ended.returncode == 0, ended.stderr
    assert {path.name for path in folder.iterdir()} == {"log.txt"}


def test_a_script_that_lies_in_the_folder_itself(program):
    folder, ended = program(call="create_experiment_directory('.', 'h.yaml', save_env_desc=False)")
    assert ended.returncode == 0, ended.stderr
    assert (folder.parent / "hyperparams.yaml").exists()
    assert "create_experiment_directory" in (folder.parent / "train.py").read_text()


def test_again_in_the_same_folder(program):
    program(call=CALL.replace("seed: 5", "seed: 6"))
    folder, _ = program()
    assert (folder / "log.txt").read_text().count("Beginning experiment!") == 2
    assert "seed: 5\n" in (folder / "hyperparams.yaml").read_text()


WRONG_CALLS = [
    ("('out', 'none.yaml')", "FileNotFoundError", "There is no hyperparameter file none.yaml"),
    ("('out', 'h.yaml', {'sed': 5})", "KeyError", "'sed' is to be overridden.*mean 'seed'"),
    ("('out', 'h.yaml', 'sed: 5')", "KeyError", "'sed' is to be overridden.*mean 'seed'"),
    ("('out', 'h.yaml', 'seed: [')", "YAMLError", "The text of the overrides.*is not YAML"),
    ("('out', 'h.yaml', 'seed')", "ValueError", "The text of the overrides.*a str.*a mapping"),
    ("('out', 'h.yaml', {'seed': {'a': 1}})", "ValueError", "cannot be resolved.*structure"),
    ("('out', write('a: [1'))", "YAMLError", "h2.yaml is not YAML"),
    ("('out', write('a: 1\\na: 2'))", "YAMLError", "h2.yaml is not YAML.*duplicate"),
    ("('out', write('hello'))", "ValueError", "h2.yaml holds a str; it must hold a mapping"),
    ("('out', write(''))", "ValueError", "h2.yaml holds nothing"),
    ("('out', write('a: !ref <b>'))", "ValueError", 'h2.yaml cannot be resolved.*"b"'),
    ("('out', write('a: !PLACEHOLDER'))", "ValueError", "'a' is a !PLACEHOLDER"),
    ("('out', write('a: !include:x.yaml'))", "FileNotFoundError", "h2.yaml includes .*x.yaml"),
    ("('out', '')", "FileNotFoundError", "no hyperparameter file"),
    ("('out', 'h.yaml', log_config=write('a: [1'))", "ValueError", "logging config.*not YAML"),
    ("('out', 'h.yaml', log_config=write('a: 1'))", "ValueError", "version: 1"),
]
IN_ONE_PROGRAM = """
import pathlib, re, shutil
import ruamel.yaml
from ruamel.yaml.error import YAMLError
from brain_lightning.facade.experiment import create_experiment_directory
import logging, sys

def write(text):
    pathlib.Path('h2.yaml').write_text(text)
    return 'h2.yaml'

hook, handlers = sys.excepthook, logging.getLogger().handlers[:]
for call, kind, said in {calls!r}:
    try:
        eval('create_experiment_directory' + call)
    except ValueError as error:
        assert isinstance(error, eval(kind)), (call, type(error))
        assert re.search(said, str(error), re.DOTALL), (call, str(error))
    else:
        raise AssertionError(call)
    assert sys.excepthook is hook
    assert logging.getLogger().handlers == handlers
    assert {check}, call
print('all refused')
"""


def refused_in(folder, check):
    (folder / "h.yaml").write_text(HYPERPARAMETERS)
    code = IN_ONE_PROGRAM.format(calls=WRONG_CALLS, check=check)
    ended = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert ended.stdout == "all refused\n", ended.stderr


def test_bad_input_creates_nothing(tmp_path):
    refused_in(tmp_path, "not pathlib.Path('out').exists()")


def test_bad_input_leaves_an_earlier_run_as_it_was(program, tmp_path):
    folder, _ = program()
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
    assert set(before) == {"hyperparams.yaml", "train.py", "log.txt"}
    refused_in(folder.parent, "pathlib.Path('out').exists()")
    after = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
    assert after == before


def test_overrides_of_another_type(tmp_path):
    (tmp_path / "h.yaml").write_text(HYPERPARAMETERS)
    with pytest.raises(TypeError, match="overrides is 3; it must be a mapping"):
        create_experiment_directory(tmp_path / "out", tmp_path / "h.yaml", 3)
    assert not (tmp_path / "out").exists()


TWO = """
import os, sys
import torch
from {module} import create_experiment_directory
from {distributed} import ddp_init_group

def main():
    ddp_init_group({{"distributed_backend": "gloo"}})
    try:
        create_experiment_directory("out", sys.argv[1], save_env_desc=False)
    except Exception as error:
        sys.stdout.write(f"refused {{type(error).__name__}}\\n")
    else:
        # it is all there, on each process
        # one write: the two processes share the stream, and print() writes a line in pieces
        there = os.path.exists("out/hyperparams.yaml")
        sys.stdout.write(f"all there {{there}}\\n")
    torch.distributed.destroy_process_group()

main()
"""


def run_two(folder, file):
    (folder / "h.yaml").write_text(HYPERPARAMETERS)
    (folder / "two.py").write_text(
        TWO.format(module=OURS, distributed="brain_lightning.ground.process_group")
    )
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return subprocess.run(
        [*launcher, "--nproc_per_node=2", "two.py", file],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.long
def test_two_processes_make_one_folder(tmp_path):
    ended = run_two(tmp_path, "h.yaml")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("all there True") == 2
    assert (tmp_path / "out" / "log.txt").read_text().count("Beginning experiment!") == 1
    assert (tmp_path / "out" / "two.py").exists()


def test_two_processes_both_hear_of_a_failure(tmp_path):
    ended = run_two(tmp_path, "none.yaml")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("refused") == 2
    assert "MissingHyperparameterFileError" in ended.stdout
    assert "MainProcessError" in ended.stdout
    assert not (tmp_path / "out").exists()


def test_the_default_configuration_comes_with_the_package():
    assert Path(DEFAULT_LOG_CONFIG).is_file()
    assert yaml.safe_load(Path(DEFAULT_LOG_CONFIG).read_text())["version"] == 1


def test_nothing_is_half_written(tmp_path, monkeypatch):
    target = tmp_path / "env.log"
    target.write_text("whole")
    monkeypatch.setattr(
        experiment.os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk is full"))
    )
    with pytest.raises(OSError, match="disk is full"):
        experiment._write_whole(target, "new")
    assert target.read_text() == "whole"
