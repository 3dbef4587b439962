"""Noise schedule, training objective, guidance and sampling; knows no network and no configuration."""
