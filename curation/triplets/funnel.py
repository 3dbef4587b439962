"""What became of everything: how many clips and candidates each rule took, printed and kept in summary.json."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.shards import MANIFEST_FILE

SUMMARY_SCHEMA = 1
# In the order in which they are asked; text and stillness were asked of whole clips by the curation.
RULES = ("same_drawing", "too_alike", "too_different", "shot_has_enough", "votes", "failed")
REMARKS = {
    "same_drawing": "two frames lie in one hold", "too_alike": "SSIM of a pair above ssim.max",
    "too_different": "SSIM of a pair below ssim.min", "shot_has_enough": "candidates.per_shot, or overlaps one taken",
    "votes": "fewer than votes.min reviewers called it eligible", "failed": "its clip could not be decoded",
}


def print_funnel(summary: Mapping[str, Any], out: Path) -> None:
    """Plain lines: step, what is left, what was dropped, why."""
    clips, triplets = summary["clips"], summary["triplets"]
    lines: list[tuple[str, str, str, str]] = [("clips of the curation", str(clips["proposed"]), "", "")]
    left = clips["proposed"]
    for gate, count in clips["dropped"].items():
        left -= count
        lines.append((f"  {gate}", str(left), str(count), "by the curation"))
    for name in ("failed", "without_candidate"):
        if clips[name]:
            left -= clips[name]
            lines.append((f"  {name}", str(left), str(clips[name]), "" if name == "failed" else "too few drawings"))
    left = triplets["candidates"]
    lines.append(("candidates", str(left), "", ""))
    for rule in RULES:
        count = triplets["dropped"].get(rule)
        if count is not None:
            left -= count
            lines.append((f"  {rule}", str(left), str(count), REMARKS[rule]))
    kept = triplets["kept"]
    lines.append(("kept", str(left), "", f"{kept['train']} train, {kept['eval']} eval"))
    spacings = ", ".join(f"{count} of spacing {spacing}" for spacing, count in triplets["by_spacing"].items())
    lines.append(("", "", "", spacings))
    print(f"{'step':<24}{'left':>8}{'dropped':>9}  remarks")
    for step, remaining, dropped, remark in lines:
        print(f"{step:<24}{remaining:>8}{dropped:>9}  {remark}".rstrip())
    if summary["votes_of_others"]:
        print(f"{summary['votes_of_others']} triplets of the votes file are not among those chosen")
    for name in (MANIFEST_FILE, "summary.json", "datasets", "contact_sheet.png", "motion.png"):
        print(f"{name + ':':<24}{out / name}")
