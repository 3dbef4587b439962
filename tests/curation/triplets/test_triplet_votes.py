"""Promise: a triplet stays where two different people call it eligible, and a ballot that cannot be read is told by its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from curation.triplets.votes import is_eligible, read_votes
from pipeline.errors import UserError

HEAD = "triplet,reviewer,eligible,motion,behavior\n"


def votes(folder: Path, text: str) -> Path:
    path = folder / "votes.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_two_votes_of_different_people_keep_a_triplet(tmp_path: Path) -> None:
    found = read_votes(votes(tmp_path, HEAD + "one,ann,yes,,\none,bob,YES,,\none,cid,no,,\n"
                             "two,ann,yes,,\ntwo,ann,yes,,\ntwo,bob,no,,\n"))
    assert is_eligible(found["one"], 2)
    assert not is_eligible(found["two"], 2), "one person may vote only once"
    assert not is_eligible(found.get("three"), 2) and is_eligible(found["two"], 1)


def test_tags_of_those_who_say_yes_are_kept(tmp_path: Path) -> None:
    found = read_votes(votes(tmp_path, HEAD + "one,ann,yes,rotation|translation,walking\none,bob,no,scaling,eating\n"))["one"]
    assert (found.motion, found.behavior) == ({"rotation", "translation"}, {"walking"})


def test_columns_of_tags_may_be_left_out_and_more_columns_stand(tmp_path: Path) -> None:
    assert read_votes(votes(tmp_path, "when,eligible,reviewer,triplet\nnoon,1,ann,one\n"))["one"].eligible == {"ann"}


@pytest.mark.parametrize(("text", "words"), [
    ("triplet,reviewer\n", "no column eligible"), ("", "no column triplet"),
    (HEAD + "one,ann,perhaps,,\n", "line 2"), (HEAD + "one,,yes,,\n", "line 2"), (HEAD + "one,ann\n", "line 2"),
    (HEAD + "one,ann,yes,,\none,ann,no,,\n", "line 3"), (HEAD + "one,ann,yes,rotaton,\n", "Did you mean rotation"),
])
def test_a_line_that_is_no_vote_is_told(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        read_votes(votes(tmp_path, text))


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"votes\.file=.*cannot be read"):
        read_votes(tmp_path / "absent.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00triplet")
    with pytest.raises(UserError, match="cannot be read"):
        read_votes(tmp_path / "binary.csv")
