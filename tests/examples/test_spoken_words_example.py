"""The spoken words example: learns from a folder of wav files, or says what it expects."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy
import pytest
import soundfile
import torch

from tests.examples.recipe_process import (
    EXAMPLES,
    REPOSITORY,
    epochs_of,
    log_lines,
    port_to_speechbrain,
    run_recipe,
    value_of,
)

RECIPE = EXAMPLES / "spoken_words"
SPEECH = REPOSITORY.parent / "shared" / "speech"
SAMPLE_RATE = 16000
REAL_DATA = ["--data_folder", str(SPEECH), "--noprogressbar"]

needs_speech = pytest.mark.skipif(
    not any(SPEECH.glob("*.wav")), reason="the real clips are not here: ../shared/speech"
)


def write_tones(folder: Path, names: dict[str, float]) -> None:
    """Write a noisy tone for each file name; the lengths differ."""
    generator = numpy.random.default_rng(0)
    for number, (name, frequency) in enumerate(names.items()):
        time = numpy.arange(SAMPLE_RATE // 2 + 1000 * number) / SAMPLE_RATE
        noise = 0.01 * generator.standard_normal(len(time))
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        signal = 0.3 * numpy.sin(2 * numpy.pi * frequency * time) + noise
        soundfile.write(folder / name, signal, SAMPLE_RATE)


def tones_in_subfolders(folder: Path) -> Path:
    names = {f"low/{i}.wav": 200.0 for i in range(5)} | {f"high/{i}.wav": 2000.0 for i in range(5)}
    write_tones(folder, names)
    return folder


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Train log of a run on the real clips that was called for six epochs, then for twelve."""
    cwd = tmp_path_factory.mktemp("spoken_words")
    run_recipe(RECIPE, *REAL_DATA, "--number_of_epochs", "6", cwd=cwd)
    run_recipe(RECIPE, *REAL_DATA, "--number_of_epochs", "12", cwd=cwd)
    return log_lines(cwd / "results" / "spoken_words" / "1234")


@needs_speech
def test_tells_real_speakers_apart(resumed: list[str]) -> None:
    assert epochs_of(resumed) == list(range(1, 13))
    assert value_of("train loss", resumed[-2]) < 0.2 * value_of("train loss", resumed[0])
    assert value_of("test accuracy", resumed[-1]) == 1.0


def run_under_speechbrain(folder: Path, *options: str) -> list[str]:
    """The train log of the same recipe under SpeechBrain, after six epochs."""
    (folder / "recipe").mkdir()
    recipe = port_to_speechbrain(RECIPE, folder / "recipe")
    options = (*REAL_DATA, "--number_of_epochs", "6", *options)
    run_recipe(recipe, *options, "--output_folder", "theirs", cwd=folder)
    return log_lines(folder / "theirs")


@needs_speech
def test_has_the_numbers_of_speechbrain(tmp_path: Path, resumed: list[str]) -> None:
    theirs = run_under_speechbrain(tmp_path)
    assert len(theirs) == 7
    assert resumed[:7] == theirs


@needs_speech
@pytest.mark.long
def test_bf16_has_the_numbers_of_speechbrain(tmp_path: Path, resumed: list[str]) -> None:
    theirs = run_under_speechbrain(tmp_path, "--precision", "bf16")
    options = [*REAL_DATA, "--number_of_epochs", "6", "--precision", "bf16"]
    run_recipe(RECIPE, *options, "--output_folder", "ours", cwd=tmp_path)
    ours = log_lines(tmp_path / "ours")
    assert ours == theirs
    assert ours[:6] != resumed[:6]


@pytest.mark.long
def test_learns_from_a_folder_of_each_label(tmp_path: Path) -> None:
    data = tones_in_subfolders(tmp_path / "data")
    options = ["--data_folder", str(data), "--number_of_epochs", "8", "--noprogressbar"]
    run_recipe(RECIPE, *options, cwd=tmp_path)
    lines = log_lines(tmp_path / "results" / "spoken_words" / "1234")
    assert value_of("test accuracy", lines[-1]) == 1.0


@pytest.mark.parametrize(
    ("arguments", "begins"),
    [
        ([], "Name a folder of wav files: --data_folder FOLDER. Expected are wav files as "),
        (["--data_folder", "."], "The labels found in . are: none. Expected are wav files as "),
    ],
    ids=["no folder", "no wav files"],
)
def test_refuses_in_one_sentence(tmp_path: Path, arguments: list[str], begins: str) -> None:
    process = run_recipe(RECIPE, *arguments, cwd=tmp_path, check=False)

    assert process.returncode == 1
    assert process.stderr.startswith(begins)
    assert process.stderr.count("\n") == 1
    assert process.stdout == ""
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def labelled_clips(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    yield from import_from_recipe("labelled_clips", monkeypatch)


@pytest.fixture
def log_mel(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    yield from import_from_recipe("log_mel", monkeypatch)


@pytest.fixture
def clip_classifier(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    yield from import_from_recipe("clip_classifier", monkeypatch)


def import_from_recipe(name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A module of the recipe, for the length of a test."""
    monkeypatch.syspath_prepend(RECIPE)
    yield __import__(name)
    del sys.modules[name]


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["a/1.wav", "a/2.wav", "a/3.wav"], "a (3)"),
        (["a_1.wav", "a_2.wav", "a_3.wav", "b_1.wav", "b_2.wav"], "a (3), b (2)"),
        (["1.wav", "_2.wav", "a/b/3.wav", "a_4.flac"], "none"),
    ],
    ids=["one label", "two clips of a label", "other layouts"],
)
def test_too_few_clips_are_refused(
    tmp_path: Path, labelled_clips: ModuleType, names: list[str], found: str
) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match="Expected are wav files as") as raised:
        labelled_clips.find_clips(str(tmp_path))
    assert f"are: {found}. " in str(raised.value)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path, labelled_clips: ModuleType) -> None:
    with pytest.raises(ValueError, match=r"There is no folder .*/absent\. Expected are"):
        labelled_clips.find_clips(str(tmp_path / "absent"))


def test_split_holds_each_clip_once_and_each_label_everywhere(
    tmp_path: Path, labelled_clips: ModuleType
) -> None:
    names = [f"a/{i}.wav" for i in range(3)] + [f"b_{i}.wav" for i in range(30)]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    clips = labelled_clips.find_clips(str(tmp_path))
    parts = labelled_clips.split_clips(clips)

    assert sorted(parts["train"] + parts["valid"] + parts["test"]) == clips
    counts = {
        name: [sum(clip.label == label for clip in part) for label in "ab"]
        for name, part in parts.items()
    }
    assert counts == {"train": [1, 24], "valid": [1, 3], "test": [1, 3]}
    assert labelled_clips.split_clips(clips[::-1]) == parts


def test_another_sample_rate_is_refused(tmp_path: Path, labelled_clips: ModuleType) -> None:
    soundfile.write(tmp_path / "a_1.wav", numpy.zeros(100), 8000)
    clip = labelled_clips.Clip(tmp_path / "a_1.wav", "a")
    clips = labelled_clips.LabelledClips([clip], ["a"], SAMPLE_RATE)
    with pytest.raises(ValueError, match=r"a_1.wav has 8000 samples a second, .* expects 16000"):
        clips[0]


def test_padding_changes_no_score(log_mel: ModuleType, clip_classifier: ModuleType) -> None:
    torch.manual_seed(0)
    compute_features = log_mel.LogMel(SAMPLE_RATE, 400, 160, 40)
    model = clip_classifier.ClipClassifier(40, 16, 3)
    long, short = torch.randn(1, 16000), torch.randn(1, 9000)
    padded = torch.zeros(2, 16000)
    padded[0], padded[1, :9000] = long, short

    together = model(*compute_features(padded, torch.tensor([1.0, 9000 / 16000])))
    alone = [model(*compute_features(signal, torch.ones(1))) for signal in (long, short)]

    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-5)


def test_mel_bands_find_the_frequency(log_mel: ModuleType) -> None:
    bands = log_mel.mel_bands(SAMPLE_RATE, 400, 40)
    assert bands.shape == (40, 201)
    assert (bands >= 0).all()
    peaks = bands.argmax(dim=1)  # in steps of 40 Hz
    assert (peaks.diff() >= 0).all()
    assert (peaks[0], peaks[-1]) == (1, 187)  # the middles are at 44 and 7,479 Hz
