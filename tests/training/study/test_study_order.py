"""Promise: everybody sees an order of their own, evenly drawn, and the page and the analysis compute the same one."""

import json
import re
import shutil
import subprocess
from importlib.resources import files
from itertools import permutations

import pytest

from training.study.order import hash32, shuffled

FILMS = [f"{number:016x}" for number in range(5)]


def test_the_order_belongs_to_the_participant_and_not_to_how_items_came():
    assert shuffled(FILMS, "study", "p01") == shuffled(reversed(FILMS), "study", "p01")
    assert sorted(shuffled(FILMS, "study", "p01")) == FILMS
    orders = {tuple(shuffled(FILMS, "study", f"p{number:02d}")) for number in range(1, 25)}
    assert len(orders) > 15             # of 120 orders, 24 draws give 21.9 different ones on average


def test_every_order_is_equally_likely_over_participants():
    """Pearson's statistic of 24 orders over 4800 participants: 23 degrees of freedom, 49.7 is passed once in a thousand."""
    seen = dict.fromkeys(permutations(FILMS[:4]), 0)
    for number in range(4800):
        seen[tuple(shuffled(FILMS[:4], "study", f"p{number}", "trial"))] += 1
    assert sum((count - 200) ** 2 / 200 for count in seen.values()) < 49.7


def test_neighbouring_texts_have_unlike_hashes():
    """Of 32 bits, half change on average when the last letter does."""
    changed = [(hash32(f"p{number}") ^ hash32(f"p{number + 1}")).bit_count() for number in range(500)]
    assert 15 < sum(changed) / len(changed) < 17


@pytest.mark.skipif(shutil.which("node") is None, reason="node, which runs the page's script here, is not installed")
def test_the_page_computes_the_same_order():
    page = (files("training.study") / "page.html").read_text()
    script = re.search(r'<script id="order">(.*?)</script>', page, re.DOTALL)[1]
    scopes = [["study", "p01"], ["study", "p02", "trial"], ["", "a-Z_9"]] + [["s", f"p{number}"] for number in range(200)]
    ask = f"{script}\nconsole.log(JSON.stringify({json.dumps(scopes)}.map(scope => shuffled({json.dumps(FILMS)}, ...scope))))"
    done = subprocess.run(["node", "-e", ask], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [shuffled(FILMS, *scope) for scope in scopes]
