"""What doctor says of the names that callbacks monitor."""

import pytest

from .doctor_recipe import HPARAMS, RECIPE, places

STOPPING = """\
trainer:
    callbacks:
        - !new:lightning.pytorch.callbacks.EarlyStopping
            monitor: NAME
"""


def asked(doctor, name, recipe=RECIPE, more=""):
    """Ask about a callback that monitors a name; return the report, and what it says of that."""
    hparams = f"{HPARAMS}{STOPPING.replace('NAME', name)}{more}"
    _, report = doctor({"train.py": recipe, "h.yaml": hparams})
    return report, [each for each in report["notes"] if "monitors" in each["message"]]


def test_a_name_that_nothing_logs(doctor):
    report, noted = asked(doctor, "valid_lost")

    assert report["verdict"] == "runs"
    assert places(noted) == [("h.yaml", 15)]
    assert "EarlyStopping monitors 'valid_lost'" in noted[0]["message"]
    assert noted[0]["message"].endswith("Did you mean 'valid_loss'?")


@pytest.mark.parametrize(
    "name", ["valid_loss", "train_loss", "CER", "epoch", "lr-SGD", "train_loss_g", "!ref <lr>[1]"]
)
def test_a_name_that_is_logged_or_may_be(doctor, name):
    assert asked(doctor, name)[1] == []


def test_a_reference_to_a_name(doctor):
    _, noted = asked(doctor, "!ref <to_monitor>", more="to_monitor: WAR\n")

    assert "monitors 'WAR'" in noted[0]["message"]


def logging(lines):
    """RECIPE with lines in on_stage_end, in the place of what it logs."""
    end = RECIPE.index("        if stage == sb.Stage.VALID")
    rest = RECIPE[RECIPE.index("\n\nif __name__") :]
    return RECIPE[:end] + "".join(f"        {line}\n" for line in lines.split("\n")) + rest


LOGGED = {
    "a literal": "self.hparams.train_logger.log_stats({'epoch': 1}, valid_stats={'WER': 1})",
    "a variable": "stats = {'loss': 1}\nstats['WER'] = 1\nself.log_stats({}, {}, stats)",
    "an attribute": (
        "self.kept = {'loss': 1}\nif stage:\n    self.kept['WER'] = 2\n"
        "self.hparams.train_logger.log_stats(stats_meta={}, valid_stats=self.kept)"
    ),
    "a variable of a variable": (
        "more = {'WER': 1}\nself.kept = more\nself.log_stats({}, valid_stats=self.kept)"
    ),
    "made by dict": "stats = dict(WER=1)\nself.log_stats({}, valid_stats=stats)",
    "updated": "stats = {}\nstats.update({'WER': 1}, CER=2)\nself.log_stats({}, None, stats)",
    "joined": "stats = {'a': 1} | {'WER': 2}\nself.log_stats({}, valid_stats={**stats})",
    "one of two": "self.log_stats({}, valid_stats={'WER': 1} if stage else None)",
    "copied": "stats = {'WER': 1}\nself.log_stats({}, valid_stats=stats.copy())",
    "saved": "stats = {'valid_WER': 1}\nself.checkpointer.save_checkpoint(meta=stats)",
    "by Lightning": "self.log('valid_WER', 1)",
    "by Lightning, several": "self.log_dict({'valid_WER': 1})",
}


@pytest.mark.parametrize("case", LOGGED)
def test_names_however_they_are_logged(doctor, case):
    recipe = logging(LOGGED[case])

    report, noted = asked(doctor, "valid_WER", recipe)
    _, wrong = asked(doctor, "valid_WAR", recipe)

    assert "valid_WER" in report["monitor"]
    assert noted == []
    assert len(wrong) == 1


COMPUTED = {
    "a key": "self.log_stats({}, valid_stats={name: 1})",
    "a key that is put in": "stats = {}\nstats[f'{a}'] = 1\nself.log_stats({}, None, stats)",
    "a comprehension": "self.log_stats({}, valid_stats={k: 1 for k in 'ab'})",
    "a call": "self.log_stats({}, valid_stats=self.metric.summarize())",
    "a variable that is a call": "stats = make()\nself.log_stats({}, valid_stats=stats)",
    "a parameter": "self.log_stats({}, valid_stats=epoch)",
    "filled by a function": "stats = {}\nfill(stats)\nself.log_stats({}, valid_stats=stats)",
    "updated": "stats = {}\nstats.update(make())\nself.log_stats({}, None, stats)",
    "unpacked": "stats, more = make()\nself.log_stats({}, valid_stats=stats)",
    "in a loop": "for stats in make(): self.log_stats({}, valid_stats=stats)",
    "of a context": "with make() as stats: self.log_stats({}, valid_stats=stats)",
    "all arguments": "self.log_stats(**make())",
    "meta": "self.checkpointer.save_and_keep_only(**make())",
    "from elsewhere": "self.log_stats({}, valid_stats=self.hparams.stats)",
    "by Lightning": "self.log(f'valid_{name}', 1)",
    "into the metrics": "self.trainer.callback_metrics['a'] = 1",
}


@pytest.mark.parametrize("case", COMPUTED)
def test_nothing_is_said_where_names_are_computed(doctor, case):
    assert asked(doctor, "valid_WAR", logging(COMPUTED[case]))[1] == []


def test_functions_of_modules_log_nothing(doctor):
    recipe = logging("math.log(3, 2)").replace("import sys", "import math, sys")

    assert len(asked(doctor, "valid_WAR", recipe)[1]) == 1


@pytest.mark.parametrize("callback", ["!new:nowhere.Own", "!new:train.Own"])
def test_other_callbacks_may_log(doctor, callback):
    hparams = f"{HPARAMS}{STOPPING.replace('NAME', 'valid_WAR')}        - {callback}\n"
    own = "import lightning\nclass Own(lightning.Callback): pass\n"

    _, report = doctor({"train.py": own + RECIPE, "h.yaml": hparams})

    noted = [each for each in report["notes"] if "monitors" in each["message"]]
    assert len(noted) == ("train" in callback)


def test_what_is_logged_of_a_test_alone_is_nothing_to_monitor(doctor):
    recipe = logging("self.log_stats({'Epoch loaded': 1}, test_stats={'WER': 1})")

    report, _ = asked(doctor, "valid_loss", recipe)

    assert report["monitor"] == ["train_loss", "valid_loss", "test_WER"]


def test_a_callback_of_the_constructor(doctor):
    made = "trainer={'callbacks': [ModelCheckpoint(monitor='WAR')]})"
    line = "from lightning.pytorch.callbacks import ModelCheckpoint\n"

    _, report = doctor({"train.py": line + RECIPE.replace("run_opts=run_opts)", made)})

    noted = [each for each in report["notes"] if "monitors" in each["message"]]
    assert places(noted) == [("train.py", 27)]
