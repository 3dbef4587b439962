"""ToonForge's shared leaf modules and its driver; `python -m pipeline` is the command line."""
