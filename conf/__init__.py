"""The configuration tree that Hydra reads as pkg://conf: one folder per group, one file per choice."""
