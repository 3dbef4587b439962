"""`python -m benchmarks.plot_losses OUT.svg RUN...`: held-out losses of trainings, each as a share of its first value."""

from __future__ import annotations

import json
import sys
from pathlib import Path

WIDTH, HEIGHT, MARGIN = 640, 320, 48
COLOURS = ("#1b6ca8", "#c0392b", "#2e8b57", "#8e5ea2")


def curve(run: Path) -> list[tuple[int, float]]:
    """Step and held-out loss; of a step that was measured twice the last."""
    found: dict[int, float] = {}
    for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        if "heldout/loss" in record:
            found[record["step"]] = record["heldout/loss"]
    return sorted(found.items())


def draw(curves: dict[str, list[tuple[int, float]]]) -> str:
    """An SVG that needs nothing else; white paper, so that it can be read on dark pages."""
    last = max(step for points in curves.values() for step, _ in points) or 1
    shares = {name: [(step, loss / points[0][1]) for step, loss in points] for name, points in curves.items()}
    top = max(1.0, *(share for points in shares.values() for _, share in points))

    def place(step: int, share: float) -> str:
        return f"{MARGIN + step / last * (WIDTH - 2 * MARGIN):.1f},{HEIGHT - MARGIN - share / top * (HEIGHT - 2 * MARGIN):.1f}"

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
             f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
             f'<polyline fill="none" stroke="#444" points="{place(0, top)} {place(0, 0)} {place(last, 0)}"/>',
             f'<text x="{MARGIN}" y="{MARGIN - 16}">held-out loss over its first value (top {top:.2f}, bottom 0)</text>',
             f'<text x="{WIDTH - MARGIN}" y="{HEIGHT - 16}" text-anchor="end">step {last}</text>']
    for index, (name, points) in enumerate(shares.items()):
        colour = COLOURS[index % len(COLOURS)]
        line = " ".join(place(step, share) for step, share in points)
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{line}"/>')
        parts.append(f'<text x="{WIDTH - MARGIN}" y="{MARGIN + 16 * index}" fill="{colour}" text-anchor="end">{name}: '
                     f'{curves[name][0][1]:.4f} to {curves[name][-1][1]:.4f}</text>')
    return "\n".join([*parts, "</svg>", ""])


def main(arguments: list[str]) -> int:
    if len(arguments) < 2:
        sys.stderr.write("toonforge: error: benchmarks.plot_losses takes OUT.svg and the folders of runs.\n")
        return 2
    runs = [Path(text) for text in arguments[1:]]
    Path(arguments[0]).write_text(draw({run.name: curve(run) for run in runs}), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
