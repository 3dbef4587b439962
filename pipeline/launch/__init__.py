"""How the ranks of a training are started: one process, torchrun, DeepSpeed's launcher, a hostfile, SLURM."""
