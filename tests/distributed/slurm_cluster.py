"""A SLURM cluster of two machines on this one, for one test session.

The daemons are Debian's, started in a folder of their own; ``scripts/slurm`` installs them. The
first machine has the name of this one, so that SLURM's variables name what can be reached.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from .processes import clean_environment, free_port

PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", "sbatch", "scontrol", "squeue")
FOLDERS_OF_DAEMONS = os.pathsep.join(["/usr/sbin", "/usr/local/sbin"])
MACHINES = (socket.gethostname(), f"{socket.gethostname()}-2")


def why_there_is_none() -> str | None:
    """Return what is missing, or None."""
    missing = [name for name in PROGRAMS if _found(name) is None]
    if missing:
        return f"{', '.join(missing)} not installed; scripts/slurm does it"
    return None if os.geteuid() == 0 else "the daemons are started by root only"


class SlurmCluster:
    """Two machines with two processors each."""

    def __init__(self, folder: Path) -> None:
        """Start the daemons; their files and logs go to ``folder``."""
        self.folder = folder
        (folder / "state").mkdir(parents=True)
        self._write_configuration()
        key = folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        self._daemons: list[subprocess.Popen[bytes]] = []
        try:
            self._start_all()
        except BaseException:
            self.end()
            raise

    def _start_all(self) -> None:
        self._start("munged", "--foreground", "--force", *self._munge_options())
        self._until("munge is there", (self.folder / "munge.socket").exists)
        self._start("slurmctld", "-D")
        for name in MACHINES:
            self._start("slurmd", "-D", "-N", name)
        self._until("machines are idle", lambda: self.said("sinfo", "-h", "-o", "%T") == "idle")

    def _write_configuration(self) -> None:
        host = socket.gethostname()
        lines = [
            "ClusterName=test",
            f"SlurmctldHost={host}(127.0.0.1)",
            f"SlurmctldPort={free_port()}",
            "SlurmUser=root",
            f"StateSaveLocation={self.folder}/state",
            f"SlurmctldPidFile={self.folder}/slurmctld.pid",
            f"SlurmdPidFile={self.folder}/%n.pid",
            f"SlurmdSpoolDir={self.folder}/spool-%n",
            "AuthType=auth/munge",
            f"AuthInfo=socket={self.folder}/munge.socket",
            "CredType=cred/munge",
            "ProctrackType=proctrack/linuxproc",
            "TaskPlugin=task/none",
            "MpiDefault=none",
            "SelectType=select/cons_tres",
            "SelectTypeParameters=CR_CPU",
            "ReturnToService=2",
            "KillWait=5",
        ]
        lines += [
            f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={free_port()} "
            "CPUs=2 RealMemory=1000"
            for name in MACHINES
        ]
        lines.append("PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP")
        self.configuration = self.folder / "slurm.conf"
        self.configuration.write_text("\n".join(lines) + "\n")

    def _munge_options(self) -> list[str]:
        names = {"socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        options = [f"--{option}={self.folder}/munge.{end}" for option, end in names.items()]
        return [*options, f"--key-file={self.folder}/munge.key"]

    def _start(self, name: str, *arguments: str) -> None:
        program = _found(name)
        assert program is not None
        with (self.folder / f"{name}-{arguments[-1].split('/')[-1]}.out").open("w") as output:
            daemon = subprocess.Popen(
                [program, *arguments],
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._daemons.append(daemon)

    def environment(self, **more: str) -> dict[str, str]:
        """What a user of the cluster has in the environment."""
        return clean_environment(SLURM_CONF=str(self.configuration), **more)

    def run(
        self, *command: str, seconds: float = 120, **more: str
    ) -> subprocess.CompletedProcess[str]:
        """Run one of SLURM's commands in the root of the checkout."""
        return subprocess.run(
            command,
            env=self.environment(**more),
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def said(self, *command: str) -> str:
        """Return what a command prints."""
        return self.run(*command).stdout.strip()

    def wait_for_job(self, job: str, seconds: float) -> None:
        """Wait until a job is no longer queued, running or ending."""
        self._until(
            f"job {job} has ended", lambda: self.said("squeue", "-h", "-j", job) == "", seconds
        )

    def _until(self, what: str, is_so: object, seconds: float = 30) -> None:
        assert callable(is_so)
        until = time.monotonic() + seconds
        while not is_so():
            assert time.monotonic() < until, f"not after {seconds} s: {what}\n{self._logs()}"
            time.sleep(0.2)

    def _logs(self) -> str:
        return "\n".join(
            f"== {path.name}\n{path.read_text(errors='replace')[-2000:]}"
            for path in self.folder.glob("*.out")
        )

    def end(self) -> None:
        """Stop the daemons."""
        for daemon in reversed(self._daemons):
            daemon.send_signal(signal.SIGTERM)
        for daemon in self._daemons:
            try:
                daemon.wait(timeout=10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


def _found(name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join([os.environ["PATH"], FOLDERS_OF_DAEMONS]))
