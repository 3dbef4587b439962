"""The command that starts all ranks of a training; a rank is `python -m training <run folder>` and reads nothing else.

Launchers kill what they should save: 30 seconds after a signal reached them, one rank after the other, or not at all. So torchrun
is told to wait as long as a checkpoint takes where it can be told (PyTorch 2.12), and nobody sends launchers signals:
pipeline/launch/supervise.py and the SLURM job file write the file STOP, which asks all ranks to save and leave.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from pipeline.errors import UserError
from pipeline.launch.slurm import JOB_FILE, render
from pipeline.records import write_text
from training.config import LaunchConfig, LauncherName, TrainJob

RANK_MODULE = "training"
ENV_FILE = "launch.env"                 # variables that DeepSpeed's launcher carries to other hosts
# SIGUSR1 is what clusters send before the end; torchrun would die of it and leave its ranks alone.
SIGNALS = "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1"
SECRET_WORDS = ("KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASS")     # how parts of a variable's name end that hold one
_UNQUOTABLE = re.compile(r'["$`\\%\n]')      # in a value, for the shells and pdsh between DeepSpeed and a rank


@dataclass(frozen=True, slots=True)
class Launch:
    """A command, what it adds to the environment, and whether it is the only rank itself: then signals may reach it."""

    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    is_rank: bool = False
    needs: tuple[str, ...] = ()          # programs that must be installed where the command is run

    def __str__(self) -> str:
        """As one types it in a shell."""
        return " ".join([*(f"{name}={shlex.quote(value)}" for name, value in self.environment.items()), shlex.join(self.command)])

    def check_installed(self) -> None:
        """UserError where a program is absent; apart from `prepare`, since a dry run is looked at anywhere."""
        for program in self.needs:
            if shutil.which(program) is None:
                raise UserError(f"{program} is not installed here", f"{Path(self.command[0]).name} needs it to start the ranks",
                                "Install it, choose another launch=..., or see the command with launch.dry_run=true")


def prepare(job: TrainJob, run_dir: Path) -> Launch:
    """Returns how the job's ranks are started from this machine, and writes what the command reads; UserError if it cannot."""
    launch = job.launch
    _refuse_secrets(launch.forward_env)
    if launch.name is LauncherName.LOCAL and launch.ranks_per_node == launch.nodes == 1:
        return Launch([sys.executable, "-m", RANK_MODULE, str(run_dir)], is_rank=True)
    if launch.name in (LauncherName.LOCAL, LauncherName.TORCHRUN):
        return _torchrun(launch, run_dir)
    if launch.name is LauncherName.DEEPSPEED:
        return _deepspeed(launch, run_dir)
    if launch.name is LauncherName.HOSTFILE:
        return _hostfile(launch, run_dir)
    return _slurm(job, run_dir)


def _torchrun(launch: LaunchConfig, run_dir: Path) -> Launch:
    rendezvous = ["--standalone"] if launch.nodes == 1 else _meeting_point(launch)
    patience = [f"--shutdown-timeout={launch.grace_s}"] if _torch_version() >= (2, 12) else []
    return Launch([sys.executable, "-m", "torch.distributed.run", f"--nnodes={launch.nodes}",
                   f"--nproc-per-node={launch.ranks_per_node}", *rendezvous, f"--signals-to-handle={SIGNALS}", *patience,
                   "-m", RANK_MODULE, str(run_dir)], _threads(launch))


def _meeting_point(launch: LaunchConfig) -> list[str]:
    """Where the agents of several nodes meet, out of the environment; UserError where that says too little."""
    absent = [name for name in ("NODE_RANK", "MASTER_ADDR") if not os.environ.get(name)]
    if absent:
        raise UserError(f"launch={launch.name.value} with launch.nodes={launch.nodes} needs {' and '.join(absent)}",
                        "the same command is started on every node, with its number and the address of the first",
                        f"Set {' and '.join(absent)}, or use launch=hostfile or launch=slurm")
    number = os.environ["NODE_RANK"]
    if not number.isdecimal() or int(number) >= launch.nodes:
        raise UserError(f"NODE_RANK={number} is none of launch.nodes={launch.nodes} nodes",
                        fix=f"Give each node its own number from 0 to {launch.nodes - 1}")
    return [f"--node-rank={number}", f"--master-addr={os.environ['MASTER_ADDR']}", f"--master-port={launch.master_port}"]


def _deepspeed(launch: LaunchConfig, run_dir: Path) -> Launch:
    if launch.nodes > 1:
        raise UserError(f"launch=deepspeed with launch.nodes={launch.nodes} has no hosts", "it starts ranks on this machine",
                        "Use launch=hostfile launch.hostfile=...")
    # With a number of GPUs the launcher ignores CUDA_VISIBLE_DEVICES, and takes GPUs that others were given.
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    chosen = [number.strip() for number in visible.split(",") if number.strip()]
    if not chosen:
        hosts = [f"--num_gpus={launch.ranks_per_node}"]
    elif len(chosen) < launch.ranks_per_node or not all(number.isdecimal() for number in chosen):
        raise UserError(f"CUDA_VISIBLE_DEVICES={visible} does not fit launch.ranks_per_node={launch.ranks_per_node}",
                        "launch=deepspeed takes one numbered GPU a rank", "Let them agree, or use launch=torchrun")
    else:
        hosts = [f"--include=localhost:{','.join(chosen[:launch.ranks_per_node])}"]
    # Without a file the launcher would look for the hosts of a certain cloud.
    return Launch(_runner(launch, ["--hostfile=/dev/null", *hosts], run_dir), _threads(launch))


def _hostfile(launch: LaunchConfig, run_dir: Path) -> Launch:
    if launch.hostfile is None or not Path(launch.hostfile).is_file():
        raise UserError(f"launch.hostfile={launch.hostfile} is no file", "launch=hostfile reads its hosts there",
                        "Give a file with lines like: node1 slots=8")
    _check_hosts(Path(launch.hostfile), launch)
    # Of these three the launcher quotes the last for the shells of other hosts, and only spaces in it.
    for what, path in {"folder": Path.cwd(), "Python": Path(sys.executable), "run's folder": run_dir.resolve()}.items():
        if not re.fullmatch(r"[\w@+=:,./-]*", str(path).replace(" ", "_") if what == "run's folder" else str(path)):
            raise UserError(f"launch=hostfile cannot use the {what} {path}", "its name does not reach other hosts unchanged",
                            "Use one of plain letters, or launch=slurm or launch=torchrun")
    file = run_dir.resolve() / ENV_FILE
    write_text(file, _forwarded(launch.forward_env))
    return Launch(_runner(launch, [f"--hostfile={Path(launch.hostfile).resolve()}"], run_dir), {"DS_ENV_FILE": str(file)},
                  needs=("ssh", "pdsh") if launch.nodes > 1 else ("ssh",))


def _runner(launch: LaunchConfig, hosts: list[str], run_dir: Path) -> list[str]:
    """DeepSpeed's launcher by this Python: a `deepspeed` on PATH may belong to another."""
    if find_spec("deepspeed") is None:
        raise UserError(f"launch={launch.name.value} needs DeepSpeed, which is not installed",
                        fix="Install it, or use launch=torchrun")
    # Ranks are no Hydra programs and take no --local_rank.
    return [sys.executable, "-m", "deepspeed.launcher.runner", *hosts, f"--master_port={launch.master_port}", "--no_local_rank",
            "--module", RANK_MODULE, str(run_dir.resolve())]


def _check_hosts(hostfile: Path, launch: LaunchConfig) -> None:
    """UserError unless DeepSpeed can read the file and finds the nodes and ranks there that the job counts with."""
    slots: dict[str, int] = {}
    for line in hostfile.read_text(encoding="utf-8").splitlines():
        if not line.strip() or line.strip().startswith("#"):
            continue
        match = re.match(r"(\S+)\s+slots=(\d+)\s*(#.*)?$", line.strip())
        if match is None:
            raise UserError(f"launch.hostfile={hostfile} cannot be read", f"{line.strip()!r} is no host", "Write: node1 slots=8")
        if match[1] in slots:
            raise UserError(f"launch.hostfile={hostfile} names {match[1]} twice", fix="Name every host once, with all its slots")
        slots[match[1]] = int(match[2])
    if not slots:
        raise UserError(f"launch.hostfile={hostfile} names no host", fix="Write lines like: node1 slots=8")
    if len(set(slots.values())) > 1 or 0 in slots.values():
        named = ", ".join(f"{host} {count}" for host, count in slots.items())
        raise UserError(f"launch.hostfile={hostfile} gives its hosts unequal slots", named, "Give all as many, at least one")
    count = next(iter(slots.values()))
    if (len(slots), count) != (launch.nodes, launch.ranks_per_node):
        raise UserError(f"launch.hostfile={hostfile} has {len(slots)} hosts with {count} slots",
                        f"launch.nodes={launch.nodes} and launch.ranks_per_node={launch.ranks_per_node} ask for others",
                        f"Correct the file, or give launch.nodes={len(slots)} launch.ranks_per_node={count}")


def _slurm(job: TrainJob, run_dir: Path) -> Launch:
    path = run_dir.resolve() / JOB_FILE
    (path.parent / "logs").mkdir(exist_ok=True)     # SLURM opens its log before anything of ours runs
    write_text(path, render(job, path.parent, Path.cwd(), [sys.executable, "-m", RANK_MODULE]))
    return Launch(["sbatch", str(path)], needs=("sbatch",))


def _refuse_secrets(names: Iterable[str]) -> None:
    """What is forwarded is written into files of the run's folder, and stands in commands that everyone on a host can see."""
    for name in names:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise UserError(f"launch.forward_env={name} is no name of a variable", fix="Give names only, without values")
        if any(part.endswith(SECRET_WORDS) for part in name.upper().split("_")):
            raise UserError(f"launch.forward_env={name} looks like a secret",
                            "what is forwarded is written into the run's folder",
                            "Log in on the host of rank 0 (wandb login, hf auth login), or let SLURM hand on your environment")


def _forwarded(names: Iterable[str]) -> str:
    """The lines NAME=value of those that have one; UserError for a value that would arrive as another."""
    values = {name: os.environ[name] for name in names if os.environ.get(name)}
    for name, value in values.items():
        if _UNQUOTABLE.search(value):
            raise UserError(f"launch.forward_env={name} cannot be forwarded",
                            f'its value has one of " $ ` \\ % or a new line: {value!r}',
                            "Set it on the hosts themselves, and leave it out of launch.forward_env")
    return "".join(f"{name}={value}\n" for name, value in values.items())


def _threads(launch: LaunchConfig) -> dict[str, str]:
    """Shares the cores between the ranks: each would take all, or under torchrun one, too few for an optimiser on the CPU."""
    if os.environ.get("OMP_NUM_THREADS"):
        return {}
    return {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // launch.ranks_per_node))}


def _torch_version() -> tuple[int, ...]:
    """E.g. (2, 12), without importing it."""
    return tuple(int(part) for part in version("torch").split("+")[0].split(".")[:2])
