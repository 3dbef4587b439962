"""Makes this folder a package, so that its test_clips.py and the curation's can stand side by side."""
