"""Promise: answers become the table they stand for; whoever did not look, and whatever is no answer, is counted out and named."""

import csv
import json
import shutil

import numpy as np
import pytest
from study_results import SYSTEMS, answer, hand_in, make_study

from pipeline.errors import UserError
from training.study.analysis import analyse, bootstrap, tabulate
from training.study.answers import read, seen_by
from training.study.config import AnalyseOptions
from training.study.key import CLIP, QUESTIONS, Key, Trial

# Table 2 of the paper in votes: all its shares are multiples of 1 / 216, that is 24 participants and 9 clips.
TABLE_2 = {"motion_quality": (7, 15, 13, 32, 149), "temporal_coherence": (15, 32, 29, 34, 106),
           "frame_fidelity": (14, 25, 27, 39, 111)}
PRINTED = {"motion_quality": (3.24, 6.94, 6.02, 14.81, 68.98), "temporal_coherence": (6.94, 14.81, 13.43, 15.74, 49.07),
           "frame_fidelity": (6.48, 11.57, 12.50, 18.06, 51.39)}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    return make_study(folder, num_clips=2).key, folder / "study"


@pytest.fixture
def study(built, tmp_path):
    """Key and a folder of its own with the study's key and no answers."""
    key, folder = built
    shutil.copy(folder / "key.json", tmp_path)
    return key, tmp_path


def like(system):
    return lambda clip, question: system


def options(folder, **more):
    return AnalyseOptions(answers=str(folder / "answers"), resamples=1000, **more)


def test_24_participants_with_the_papers_votes_give_the_papers_table(tmp_path):
    key = make_study(tmp_path, num_clips=9).key
    clips = sorted({trial.clip for trial in key.trials.values() if trial.kind == CLIP})
    votes = {question: [system for system, count in zip(SYSTEMS, counts, strict=True) for _ in range(count)]
             for question, counts in TABLE_2.items()}
    for number in range(24):
        hand_in(tmp_path / "study" / "answers", answer(
            key, f"p{number:02d}", lambda clip, question, number=number: votes[question][number + 24 * clips.index(clip)]))
    result = analyse(options(tmp_path / "study"))
    assert len(result.collected.counted) == 24 and not result.collected.failed and not result.collected.left_out
    for question, shares in PRINTED.items():
        found = [round(100 * result.shares[question][system].share, 2) for system in SYSTEMS]
        assert found == list(shares)
        assert all(row.low <= row.share <= row.high for row in result.shares[question].values())
    text = (tmp_path / "study" / "results" / "results.md").read_text()
    assert "| Motion quality | 3.24% (" in text and "24 participants, 9 clips" in text
    rows = list(csv.DictReader((tmp_path / "study" / "results" / "results.csv").open()))
    assert {row["votes"] for row in rows if row["property"] == "frame_fidelity"} == {"14", "25", "27", "39", "111"}


def test_the_same_answers_and_seed_give_the_same_files(study):
    key, folder = study
    for number in range(6):
        hand_in(folder / "answers", answer(key, f"p{number}", like(SYSTEMS[number % 3])))
    contents = []
    for name in ("first", "second"):
        analyse(options(folder, out=str(folder / name)))
        contents.append({path.name: path.read_bytes() for path in (folder / name).iterdir()})
    assert contents[0] == contents[1] and len(contents[0]) == 3


def test_orders_differ_between_participants_and_are_undone(built):
    key, _ = built
    orders = {participant: dict(seen_by(participant, key)) for participant in ("p01", "p02", "p03", "p04")}
    assert len({json.dumps(order) for order in orders.values()}) == 4
    for participant in orders:              # whatever the place on the screen, the vote goes to the system
        record = answer(key, participant, like("cormorant"))
        choices = [entry for entry in record["answers"] if key.trials[entry["trial"]].kind == CLIP]
        labels = {key.trials[entry["trial"]].labels[entry["order"][entry["order"].index(film)]]
                  for entry in choices for film in entry["choices"].values()}
        assert labels == {"cormorant"}


def test_whoever_fails_a_check_is_excluded_and_counted(study):
    key, folder = study
    hand_in(folder / "answers", answer(key, "awake", like("echidna")))
    hand_in(folder / "answers", answer(key, "asleep", like("aardvark"), is_attentive=False))
    result = analyse(options(folder))
    assert result.collected.failed == ("asleep",)
    assert result.shares["motion_quality"]["echidna"].votes == 2        # one person, two clips
    assert result.shares["motion_quality"]["aardvark"].votes == 0
    assert "1 failed an attention check: asleep" in (folder / "results" / "results.md").read_text()


def test_questions_of_a_check_without_a_right_answer_are_not_held_against_anybody(study):
    key, folder = study
    record = answer(key, "p1", like("echidna"))
    for entry in record["answers"]:
        trial = key.trials[entry["trial"]]
        free = {"shuffled": "frame_fidelity", "black": "temporal_coherence"}.get(trial.kind)
        if free:
            entry["choices"][free] = next(film for film, label in trial.labels.items() if label == "copy")
    hand_in(folder / "answers", record)
    assert not analyse(options(folder)).collected.failed


def changed(**parts):
    """Writes the record with other parts."""
    return lambda text, record: json.dumps(record | parts)


def each(**parts):
    """Writes the record with other parts in each comparison; a part may be a function of what was there."""
    def other(entry):
        return entry | {name: part(entry[name]) if callable(part) else part for name, part in parts.items()}

    return lambda text, record: json.dumps(record | {"answers": [other(entry) for entry in record["answers"]]})


DAMAGE = {
    "cut off": (lambda text, record: text[:len(text) // 2], "damaged"),
    "no text": (lambda text, record: "\x00\x01", "damaged"),
    "deep": (lambda text, record: "[" * 100_000, "damaged"),
    "a list": (lambda text, record: "[1, 2]", "no answer file"),
    "of another version": (changed(schema=7), "of this version"),
    "of another study": (changed(study="0" * 16), "another study"),
    "without a name": (changed(participant=3), "damaged"),
    "in another's order": (changed(participant="somebody-else"), "order"),
    "incomplete": (lambda text, record: json.dumps(record | {"answers": record["answers"][:-1]}), "comparisons"),
    "with a hole": (each(choices={}), "not complete"),
    "with other films": (each(choices=dict.fromkeys(QUESTIONS, "f" * 16)), "no film"),
    "with other orders": (each(order=lambda order: order[::-1]), "films are not in the order"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_file_that_is_no_answer_is_reported_and_left_out(study, damage):
    key, folder = study
    hand_in(folder / "answers", answer(key, "good", like("basilisk")))
    bad = hand_in(folder / "answers", answer(key, "bad", like("aardvark")))
    spoil, reason = DAMAGE[damage]
    bad.write_text(spoil(bad.read_text(), json.loads(bad.read_text())))
    result = analyse(options(folder))
    assert [answers.participant for answers in result.collected.counted] == ["good"]
    assert reason in result.collected.left_out["bad.json"]
    assert "Left out bad.json" in (folder / "results" / "results.md").read_text()


def test_a_participant_counts_once(study):
    key, folder = study
    hand_in(folder / "answers", answer(key, "p1", like("basilisk")))
    shutil.copy(folder / "answers" / "p1.json", folder / "answers" / "p1 (1).json")
    result = analyse(options(folder))
    assert len(result.collected.counted) == 1 and "the same answers" in next(iter(result.collected.left_out.values()))


def test_intervals_are_as_wide_as_persons_differ():
    """400 people of 9 votes, each for one of two systems alone: the votes of a person say one thing, so the interval is that of
    400 draws, 0.5 +- 1.96 sqrt(0.25 / 400) = 0.451 to 0.549, and not that of 3600 votes."""
    votes = np.zeros((400, 1, 2), np.int64)
    votes[:200, 0, 0] = votes[200:, 0, 1] = 9
    low, high = bootstrap(votes, seed=0, resamples=5000)
    assert low[0, 0] == pytest.approx(0.451, abs=0.004) and high[0, 0] == pytest.approx(0.549, abs=0.004)


def test_people_of_one_mind_leave_no_doubt():
    key = Key("s", ("a", "b"), {"t": Trial(CLIP, "c", {"0": "a", "1": "b"})})
    agreed = [read_choice(name, "1") for name in "xyz"]
    share = tabulate(agreed, key, seed=0, resamples=100)["motion_quality"]["b"]
    assert (share.votes, share.share, share.low, share.high) == (3, 1, 1, 1)


def read_choice(participant, film):
    from training.study.answers import Answers

    return Answers(participant, {"t": dict.fromkeys(QUESTIONS, film)})


def test_an_answer_is_read_as_it_was_given(study):
    key, folder = study
    record = answer(key, "p1", like("dromedary"))
    answers = read(hand_in(folder / "answers", record), key)
    assert answers.choices == {entry["trial"]: entry["choices"] for entry in record["answers"]}


def test_mistakes_are_told_in_one_sentence(study):
    key, folder = study
    with pytest.raises(UserError, match="is no folder"):
        analyse(options(folder))
    (folder / "answers").mkdir()
    with pytest.raises(UserError, match="holds no answers"):
        analyse(options(folder))
    hand_in(folder / "answers", answer(key, "asleep", like("aardvark"), is_attentive=False))
    with pytest.raises(UserError, match="hold nothing to count: 1 failed a check and 0 were left out"):
        analyse(options(folder))
    (folder / "key.json").write_text('{"schema": 1, "study": "s", "systems": ["a"], "trials": {"t": 3}}')
    with pytest.raises(UserError, match=r"key\.json is damaged"):
        analyse(options(folder))
    (folder / "key.json").unlink()
    with pytest.raises(UserError, match="belong to no study"):
        analyse(options(folder))
