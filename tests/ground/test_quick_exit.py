import subprocess
import sys

SCRIPT = """
import sys
from brain_lightning.ground.quick_exit import end_quickly

class Cycle:
    def __init__(self):
        self.itself = self
        self.file = open("written.txt", "w")

end_quickly()
end_quickly()
holder = Cycle()
holder.file.write("the last line")
sys.exit(7)
"""


def test_files_in_cycles_are_whole_and_the_status_stays(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (7, "")
    assert (tmp_path / "written.txt").read_text() == "the last line"
