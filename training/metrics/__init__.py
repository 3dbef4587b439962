"""Metrics of in-betweened clips; every number carries the protocol it was measured under. Start at `suite.py`."""
