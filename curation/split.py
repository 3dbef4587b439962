"""Titles, and which of them are for evaluation: a split by film, never by clip, so that nothing leaks.

ToonCrafter splits its clips at random (section 3.2), so its evaluation shots share films with training; ours does not.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence

from curation.config import SplitConfig
from curation.gates.duplicates import Duplicates
from curation.ledger import Clip

# What tells an encode or an episode of a title from the title, taken off the end of a file's name again and again.
# Marks made of letters stand alone: "Cobweb" and "Sheep 12" are no marks of web and of episode 12.
_TAIL = re.compile(
    r"[\s._-]*(?:(?<![^\W\d_])(?:[es]\d{1,3}|(?:ep|episode|season|part|pt|cd|disc|vol)[\s._-]*\d{1,4}|uhd|hd|sd|hi10p?|hdr|"
    r"dvd(?:rip)?\d*|bd(?:rip)?|blu[\s._-]?ray|web(?:rip|dl)?|x26[45]|h\.?26[45]|hevc|avc|av1|vp9|copy|re-?encoded?|v\d)|"
    r"s\d{1,2}\s*e\d{1,3}|\d{1,2}x\d{1,3}|\d{3,4}x\d{3,4}|\d{3,4}[pi]|4k|8k|10bit|8bit|(?<!\d)\d{1,3}|"
    r"\([^)]*\)|\[[^\]]*\])$", re.IGNORECASE)
_LEAD = re.compile(r"^\[[^\]]*\][\s._-]*")


def title_of(name: str, pattern: str = "") -> str:
    """The title a source belongs to: its file's name without episode, size and encode marks, lower case.

    `name` as in the ledger ("folder/film.mkv", "pack.zip!/folder/film.mp4"); episodes of one series give one title.
    `pattern`: a regular expression searched in `name` whose first group (or match) is the title instead.
    """
    if pattern and (found := re.search(pattern, name)):
        return (found.group(1) if found.re.groups else found.group(0)) or name
    folders = name.replace("!/", "/").split("/")
    for part in reversed(folders):
        words = _words(_without_marks(part))
        if re.search(r"[^\W\d_]", words) and "*" not in words:     # "001.mp4", "S01E02.mkv" and "frame_*.png" say nothing:
            return words                                           # their folder does
    return _words(_without_suffix(folders[-1])) or name


def _without_suffix(part: str) -> str:
    return re.sub(r"\.[A-Za-z0-9]{1,5}$", "", part)


def _without_marks(part: str) -> str:
    short = _LEAD.sub("", _without_suffix(part))
    while (cut := _TAIL.sub("", short)) != short:
        short = cut
    return short


def _words(part: str) -> str:
    return re.sub(r"[\s._-]+", " ", part).strip().lower()


def assign_splits(clips: Sequence[Clip], duplicates: dict[str, Duplicates], config: SplitConfig) -> dict[str, str]:
    """"train" or "eval" for each clip key, decided for whole groups of titles.

    Titles that share a near-duplicate are one group. Groups are taken for evaluation in the order of a hash of their
    first title as long as that brings the share of clips nearer to `config.eval_share`, passing over such as are too
    large to begin with; at least one group when there are two or more. Films added later move the border in that order
    and nothing else, unless a group passed over before is then small enough.
    """
    group_of = _title_groups(clips, duplicates)
    sizes: dict[str, int] = defaultdict(int)
    for clip in clips:
        sizes[group_of[clip.title]] += 1
    wanted = config.eval_share * len(clips)
    evaluated: set[str] = set()
    count = 0
    if config.eval_share > 0 and len(sizes) > 1:
        order = sorted(sizes, key=lambda title: hashlib.sha256(f"{config.seed}/{title}".encode()).hexdigest())
        for title in order:
            if abs(count + sizes[title] - wanted) < abs(count - wanted):
                evaluated.add(title)
                count += sizes[title]
            elif count:
                break                # filling the gap with later groups would move them whenever films are added
        if not evaluated:
            evaluated.add(min(order, key=lambda title: (sizes[title], order.index(title))))
    return {clip.key: "eval" if group_of[clip.title] in evaluated else "train" for clip in clips}


def _title_groups(clips: Sequence[Clip], duplicates: dict[str, Duplicates]) -> dict[str, str]:
    """Each title's group, named by the group's first title in the alphabet."""
    parent = {clip.title: clip.title for clip in clips}

    def root(title: str) -> str:
        while parent[title] != title:
            title = parent[title]
        return title

    first_title: dict[str, str] = {}
    for clip in clips:
        group = duplicates[clip.key].group if clip.key in duplicates else clip.key
        one, two = sorted((root(first_title.setdefault(group, clip.title)), root(clip.title)))
        parent[two] = one
    return {title: root(title) for title in parent}
