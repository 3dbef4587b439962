"""A SLURM job file: printable, editable, and the whole of what is handed to sbatch.

SLURM signals the batch shell `grace_s` before the time is up; the shell writes the STOP file, the ranks save and leave, and the
job is queued again where the run says that it is paused. srun starts the ranks itself: an agent between them would kill what
should be saved. Everything comes from the run's folder, so the queued job is the same.
"""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

from training.config import TrainJob

JOB_FILE = "job.sbatch"

# Filled in by render; $ is the shell's.
SCRIPT = """\
run={run}
cd {folder} || exit 1
export MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1) MASTER_PORT={port}
export OMP_NUM_THREADS=${{OMP_NUM_THREADS:-$(( ($(nproc) + {ranks} - 1) / {ranks} ))}}
{forwarded}
# The time is nearly up: save, leave and queue again. Somebody ends the job: save and leave.
asked=
trap 'asked=requeue; touch "$run/STOP"' USR1
trap 'asked=${{asked:-end}}; touch "$run/STOP"' TERM

# Ranks use all cores of their node, their data workers too, and all its GPUs are seen by each: NCCL needs that.
srun --export=ALL --kill-on-bad-exit=1 --cpu-bind=none bash -c \\
  'export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS; exec "$@"' rank \\
  {rank} "$run" &
ranks=$!
while kill -0 "$ranks" 2>/dev/null; do
  # A signal ends a wait, not the ranks. Those that are only starting remove STOP as one from before: write it again.
  if [ -n "$asked" ]; then touch "$run/STOP"; sleep {pause_s}; else wait "$ranks"; fi
done
wait "$ranks"
code=$?

# Not where a person paused it with a STOP file of their own.
if [ "$asked" = requeue ] && grep -q '"state": *"paused"' "$run/status.json"; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
"""


def render(job: TrainJob, run_dir: Path, folder: Path, rank: list[str], pause_s: float = 5) -> str:
    """Returns the text of the job file.

    `run_dir`: absolute, on a file system that all nodes see; `folder`: where relative paths of the job begin; `rank`: the
    command of a rank without the run's folder; `pause_s`: between two looks whether ranks that were asked to leave are gone.
    """
    launch = job.launch
    log = str(run_dir / "logs").replace("%", "%%") + "/slurm-%j.log"    # % begins a pattern of SLURM
    options = {
        "job-name": "toonforge-" + (job.experiment or job.task.name.value), "nodes": launch.nodes,
        "ntasks-per-node": launch.ranks_per_node, "gpus-per-node": None if job.device == "cpu" else launch.ranks_per_node,
        "time": launch.time_limit, "signal": f"B:USR1@{launch.grace_s}", "output": log, "open-mode": "append",
        "partition": launch.partition, "account": launch.account,
    }
    lines = [f"#SBATCH --{option}={_escaped(str(value))}" for option, value in options.items() if value is not None]
    forwarded = [f"export {name}={shlex.quote(os.environ[name])}" for name in launch.forward_env if os.environ.get(name)]
    script = SCRIPT.format(run=shlex.quote(str(run_dir)), folder=shlex.quote(str(folder)), port=launch.master_port,
                           ranks=launch.ranks_per_node, forwarded="".join(f"{line}\n" for line in forwarded),
                           rank=shlex.join(rank), pause_s=pause_s)
    return "\n".join(["#!/bin/bash", *lines, "#SBATCH --requeue", "#SBATCH --exclusive", "", script])


def _escaped(value: str) -> str:
    """As sbatch reads an option in a file: a backslash keeps the next character, also within quotes; # begins a comment."""
    return re.sub(r"([^\w./:=@,+%-])", r"\\\1", value)
