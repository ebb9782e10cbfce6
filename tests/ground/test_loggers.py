import io
import logging
import os
import sys

import pytest
import yaml
from tqdm import tqdm

from brain_lightning.ground import loggers
from brain_lightning.ground.loggers import (
    LEVEL_VARIABLE,
    TqdmCompatibleStreamHandler,
    get_logger,
    setup_logging,
)


@pytest.fixture
def not_main(monkeypatch):
    monkeypatch.setattr(loggers, "if_main_process", lambda: False)


@pytest.fixture(autouse=True)
def logging_as_before(monkeypatch):
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    monkeypatch.setenv(LEVEL_VARIABLE, "INFO")
    yield
    for handler in [handler for handler in root.handlers if handler not in handlers]:
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_main_process_writes(caplog):
    get_logger("a.b").info("loss %d", 3)
    assert caplog.record_tuples == [("a.b", logging.INFO, "loss 3")]


def test_other_processes_write_only_when_told_to(caplog, not_main):
    get_logger("a").error("hidden")
    get_logger("a").error("shown", main_process_only=False)
    assert caplog.messages == ["shown"]


def test_the_reported_line_is_the_callers(caplog):
    logger = get_logger("a")
    logger.warning("first")
    logger.log(logging.WARNING, "second")
    logger.warning_once("the third, once")
    assert {record.filename for record in caplog.records} == {"test_loggers.py"}
    assert {record.funcName for record in caplog.records} == {
        "test_the_reported_line_is_the_callers"
    }


def test_warning_once(caplog):
    for number in (1, 1, 2):
        get_logger("once").warning_once("number %d", number)
    get_logger("another").warning_once("number %d", 1)
    assert caplog.messages == ["number 1", "number 2", "number 1"]


def test_level_from_the_environment(monkeypatch, caplog):
    monkeypatch.setenv(LEVEL_VARIABLE, "warning")
    get_logger("quiet").info("hidden")
    get_logger("quiet").warning("shown")
    assert caplog.messages == ["shown"]


def test_level_is_info_when_nothing_is_said(monkeypatch):
    monkeypatch.delenv(LEVEL_VARIABLE)
    assert get_logger("usual").logger.level == logging.INFO
    assert os.environ[LEVEL_VARIABLE] == "INFO"


CONFIGURATION = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"short": {"format": "%(levelname)s %(message)s"}},
    "handlers": {
        "file": {"class": "logging.FileHandler", "filename": "nowhere", "formatter": "short"}
    },
    "root": {"level": "DEBUG", "handlers": ["file"]},
}


def test_setup_logging(tmp_path):
    config, log = tmp_path / "log.yaml", tmp_path / "log.txt"
    config.write_text(yaml.safe_dump(CONFIGURATION))
    overrides = {"handlers": {"file": {"filename": str(log)}}}
    setup_logging(config, overrides, default_level="WARNING")
    get_logger("x").info("hidden")
    get_logger("x").warning("shown")
    assert log.read_text() == "WARNING shown\n"
    assert os.environ[LEVEL_VARIABLE] == "WARNING"
    assert overrides == {"handlers": {"file": {"filename": str(log)}}}


def test_setup_logging_without_a_file(tmp_path):
    logging.getLogger().handlers.clear()
    setup_logging(tmp_path / "none.yaml", default_level="ERROR")
    assert logging.getLogger().level == logging.ERROR
    assert len(logging.getLogger().handlers) == 1


@pytest.mark.parametrize(
    ("text", "said"), [("a: [", "is not YAML"), ("hello", "version: 1"), ("root: {}", "version: 1")]
)
def test_what_is_no_configuration(tmp_path, text, said):
    config = tmp_path / "log.yaml"
    config.write_text(text)
    before = logging.getLogger().handlers[:]
    with pytest.raises(ValueError, match=said):
        setup_logging(config)
    assert logging.getLogger().handlers == before


def test_messages_stand_above_a_progress_bar():
    stream = io.StringIO()
    logger = logging.Logger("bar")
    logger.addHandler(TqdmCompatibleStreamHandler(stream))
    with tqdm(total=2, file=stream, ascii=True, leave=False):
        logger.info("a message")
    # the bar was wiped before the message and drawn again after it
    before, _, after = stream.getvalue().partition("a message\n")
    assert before.endswith("\r")
    assert "0/2" in before
    assert "0/2" in after


def test_a_message_that_cannot_be_written_is_reported(capsys):
    handler = TqdmCompatibleStreamHandler(io.StringIO())
    handler.emit(logging.LogRecord("x", logging.INFO, "f", 1, "%d", ("a",), None))
    assert "--- Logging error ---" in capsys.readouterr().err


def test_messages_stand_above_what_rich_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    console = pytest.importorskip("rich.console")
    live = pytest.importorskip("rich.live")
    stream, terminal = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    logger = logging.Logger("above rich")
    logger.addHandler(TqdmCompatibleStreamHandler(sys.stderr))
    with live.Live("a bar", console=console.Console(file=terminal, force_terminal=True)):
        logger.warning("in its time")
    logger.warning("behind it")
    assert stream.getvalue() == "behind it\n"
    shown = terminal.getvalue()
    assert "in its time\n" in shown
    assert shown.rindex("a bar") > shown.index("in its time")
