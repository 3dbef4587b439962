"""Promise: the same content gives the same bytes and the same key, and a file is there whole or not at all."""

import hashlib
import json
import subprocess
import sys
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.hashing import content_key, file_digest
from pipeline.records import atomic_path, canonical_json, read_json, write_json, write_text

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


class Colour(StrEnum):
    RED = "red"


@dataclass
class Point:
    x: int
    rate: Fraction
    colour: Colour


def test_known_types_have_one_text():
    point = Point(x=1, rate=Fraction(1, 24), colour=Colour.RED)
    assert canonical_json({"b": (1, 2.5), "a": point}) == '{"a":{"colour":"red","rate":"1/24","x":1},"b":[1,2.5]}'


@given(JSON_VALUES)
def test_canonical_json_is_read_back_unchanged(value):
    assert json.loads(canonical_json(value)) == value


@given(st.dictionaries(st.text(), st.integers(), min_size=2))
def test_order_of_fields_does_not_matter(record):
    assert canonical_json(dict(reversed(record.items()))) == canonical_json(record)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_refused(value):
    with pytest.raises(ValueError, match="finite"):
        canonical_json({"a": [value]})


@pytest.mark.parametrize("value", [Path("a"), b"a", {1}, object(), {1: "a"}, {"a": Point}])
def test_unknown_types_are_refused(value):
    with pytest.raises(TypeError):
        canonical_json([value])


def test_key_is_the_digest_of_the_canonical_text():
    assert content_key(b=1, a="x") == hashlib.sha256(b'{"a":"x","b":1}').hexdigest()
    assert content_key(a=1) != content_key(b=1)


def test_key_is_the_same_in_another_process():
    command = "from pipeline.hashing import content_key; print(content_key(a={'x': 1, 'y': [2.5]}))"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == content_key(a={"y": [2.5], "x": 1})


def test_file_digest_spans_pieces(tmp_path):
    data = bytes(range(256)) * 5000  # 1.28 MB: more than one piece of 1 MiB
    (tmp_path / "a").write_bytes(data)
    assert file_digest(tmp_path / "a") == hashlib.sha256(data).hexdigest()


def test_failed_write_keeps_the_old_file_and_leaves_nothing_else(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(RuntimeError), atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


def test_file_appears_only_when_it_is_complete(tmp_path):
    with atomic_path(tmp_path / "new" / "film.mp4") as temporary:
        temporary.write_bytes(b"x")
        assert temporary.suffix == ".mp4"  # writers choose the format by it
        assert not (tmp_path / "new" / "film.mp4").exists()
    assert (tmp_path / "new" / "film.mp4").read_bytes() == b"x"


@pytest.mark.parametrize("indent", [None, 2])
def test_json_record_is_read_back(tmp_path, indent):
    write_json(tmp_path / "a.json", {"schema": 3, "b": "\u00e9"}, indent)
    assert read_json(tmp_path / "a.json", schema=3) == {"schema": 3, "b": "\u00e9"}


@pytest.mark.parametrize(("text", "message"), [
    ('{"schema": 2}', "has schema 2; this version reads 3"),
    ("{}", "has schema None"),
    ("[3]", "has schema None"),
    ('{"schema": 3', "cannot be read"),
    (None, "is absent"),
])
def test_unfit_record_is_a_user_error(tmp_path, text, message):
    if text is not None:
        (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match=message):
        read_json(tmp_path / "a.json", schema=3)
