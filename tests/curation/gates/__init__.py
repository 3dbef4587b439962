"""A package, because tests/curation has a test_motion.py too: curation.motion measures, curation.gates.motion decides."""
