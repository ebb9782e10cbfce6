import logging

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from speechbrain.utils.train_logger import FileTrainLogger as TheirLogger

from brain_lightning.parts.train_log.file_train_logger import FileTrainLogger, TrainLogger

stats = st.none() | st.dictionaries(
    st.text("ab _", max_size=5),
    st.floats()
    | st.integers()
    | st.text(max_size=3)
    | st.none()
    | st.lists(st.floats(), max_size=2),
    max_size=3,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("train_log")


@settings(max_examples=150, deadline=None)
@given(stats.map(lambda found: found or {}), stats, stats, stats, st.integers(0, 6))
def test_lines_are_speechbrains(folder, meta, train, valid, test, precision):
    paths = [folder / "theirs.txt", folder / "ours.txt"]
    for kind, path in zip([TheirLogger, FileTrainLogger], paths, strict=True):
        path.unlink(missing_ok=True)
        kind(path, precision).log_stats(meta, train, valid, test, verbose=False)
    assert paths[1].read_bytes() == paths[0].read_bytes()


def test_tensors_and_limits_are_written_as_speechbrain_does(tmp_path):
    values = [torch.tensor(1.5), torch.tensor([1.0, 2.0]), 1.0, 100.0, 99.99, -5.0, 0.0, True]
    for kind, name in [(TheirLogger, "theirs"), (FileTrainLogger, "ours")]:
        for value in values:
            kind(tmp_path / name).log_stats({"epoch": 1}, {"loss": value}, verbose=False)
    assert (tmp_path / "ours").read_text() == (tmp_path / "theirs").read_text()


def test_lines_are_appended(tmp_path):
    path = tmp_path / "train_log.txt"
    for epoch in (1, 2):
        FileTrainLogger(str(path)).log_stats(
            {"epoch": epoch, "lr": 1e-3}, train_stats={"loss": 2.314}, valid_stats={"loss": 0.5}
        )
    assert path.read_text() == (
        "epoch: 1, lr: 1.00e-03 - train loss: 2.31 - valid loss: 5.00e-01\n"
        "epoch: 2, lr: 1.00e-03 - train loss: 2.31 - valid loss: 5.00e-01\n"
    )


def test_verbose_goes_to_the_log(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    log = FileTrainLogger(tmp_path / "log.txt")
    log.log_stats({"epoch": 1}, verbose=False)
    assert "epoch: 1" not in caplog.text
    log.log_stats({"epoch": 2})
    assert "epoch: 2" in caplog.text


def test_only_the_main_process_writes(tmp_path, monkeypatch):
    monkeypatch.setattr("brain_lightning.ground.ranks.if_main_process", lambda: False)
    FileTrainLogger(tmp_path / "log.txt").log_stats({"epoch": 1})
    assert not (tmp_path / "log.txt").exists()


def test_a_logger_of_ones_own_must_say_how_it_logs():
    assert issubclass(FileTrainLogger, TrainLogger)
    with pytest.raises(NotImplementedError):
        TrainLogger().log_stats({})
