"""Ranks of a small training as processes on this machine; a server that has imported torch and DeepSpeed once forks them."""

import multiprocessing
import os
import socket
import sys
import time

CONTEXT = multiprocessing.get_context("forkserver")
# torch's optimisers import its compiler, five seconds where byte code is not kept.
CONTEXT.set_forkserver_preload(["torch", "torch._dynamo", "deepspeed", "training.deepspeed_engine", "training.loop"])


def start_ranks(world, target, *args):
    """Starts target(*args) in `world` processes with the environment of a launcher; one rank gets none, as without a launcher."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [CONTEXT.Process(target=_enter, args=(rank, world, port, target, args), daemon=True) for rank in range(world)]
    for process in processes:
        process.start()
    return processes


def join(processes, timeout_s=240.0):
    """Exit codes of all ranks; those that still run after the time are killed and count as None."""
    deadline = time.monotonic() + timeout_s
    for process in processes:
        process.join(max(0.1, deadline - time.monotonic()))
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
        process.join()
    return codes


def run_ranks(world, target, *args, timeout_s=240.0):
    return join(start_ranks(world, target, *args), timeout_s)


def _enter(rank, world, port, target, args):
    import torch

    torch.set_num_threads(1)
    if world > 1:
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world), MASTER_ADDR="127.0.0.1",
                          MASTER_PORT=str(port))
    sys.exit(target(*args))
