"""PySceneDetect on the same films: shot detection only, by its own interface and its PyAV reader, at its defaults."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scenedetect import AdaptiveDetector, ContentDetector, detect
from scenedetect.detector import SceneDetector

from benchmarks.meter import Meter, Usage
from benchmarks.stages import Film

PEERS: dict[str, Callable[[], SceneDetector]] = {
    "PySceneDetect content": ContentDetector,
    "PySceneDetect adaptive": AdaptiveDetector,
}


@dataclass(frozen=True, slots=True)
class PeerPass:
    usage: Usage                       # on the films it can read
    films: tuple[str, ...]             # their names


def run_peers(films: Sequence[Film]) -> dict[str, PeerPass]:
    """Runs each peer once over the films that are plain files; a film on which one fails does not count for it."""
    logging.getLogger("pyscenedetect").setLevel(logging.CRITICAL)
    found: dict[str, PeerPass] = {}
    plain = [film for film in films if film.source.access.offset is None and not film.source.access.pictures]
    for name, detector in PEERS.items():
        whole, done = Usage(), []
        for film in plain:
            meter = Meter(with_memory=True)
            try:
                with meter.measure(name):
                    detect(film.source.access.path, detector(), backend="pyav")
            except Exception:  # noqa: S112 - whatever it raises: it cannot read the film
                continue
            usage = meter.usages[name]
            whole.calls += 1
            whole.wall_s += usage.wall_s
            whole.cpu_s += usage.cpu_s
            whole.peak_rss_mb = max(whole.peak_rss_mb, usage.peak_rss_mb)
            done.append(film.source.name)
        found[name] = PeerPass(whole, tuple(done))
    return found
