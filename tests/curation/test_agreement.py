"""Promise: every detection is counted once and fairly, and empty films neither divide by zero nor look bad."""

import itertools
import json

import pytest

from curation.calibration.agreement import Agreement, judge_binary, match_cuts, match_ranges, overlap
from curation.calibration.curves import suggest
from curation.calibration.films import compare_cuts, compare_graduals, open_cuts
from curation.calibration.truth import Truth, parse_truth, read_truths
from pipeline.errors import UserError


def counts(matching):
    agreement = matching.agreement
    return agreement.true_positives, agreement.false_positives, agreement.false_negatives


@pytest.mark.parametrize(("found", "expected", "tolerance", "result"), [
    ([10, 50], [10, 50], 0, (2, 0, 0)),
    ([11], [10], 0, (0, 1, 1)),
    ([11], [10], 1, (1, 0, 0)),
    ([12], [10], 1, (0, 1, 1)),
    ([12], [10], 2, (1, 0, 0)),
    ([9, 11], [10], 1, (1, 1, 0)),              # two detections of one cut: one of them is false
    ([10], [9, 11], 1, (1, 0, 1)),              # one detection of two cuts finds one
    ([], [10], 2, (0, 0, 1)),
    ([10], [], 2, (0, 1, 0)),
    ([], [], 2, (0, 0, 0)),
])
def test_cuts_match_one_to_one_within_the_tolerance(found, expected, tolerance, result):
    assert counts(match_cuts(found, expected, tolerance)) == result


def test_matching_is_as_large_as_any_can_be():
    """12 is nearest to 11, but 10 can only be 11, so 12 must take 13."""
    for found in itertools.permutations([12, 10]):
        assert counts(match_cuts(found, [11, 13], 1)) == (2, 0, 0)


def test_detections_in_open_ranges_are_not_counted_unless_they_match():
    open_range = [(100, 110)]
    assert counts(match_cuts([105], [], 2, open_range)) == (0, 0, 0)
    assert counts(match_cuts([96, 114], [], 2, open_range)) == (0, 0, 0)      # 4 frames around the range
    assert counts(match_cuts([95, 115], [], 2, open_range)) == (0, 2, 0)
    assert counts(match_cuts([105], [105], 2, open_range)) == (1, 0, 0)
    assert counts(match_cuts([], [105], 2, open_range)) == (0, 0, 1)


def test_cuts_in_open_ranges_are_told_although_they_do_not_count():
    truth = Truth("film", hard_cuts=(100,), gradual=((40, 50),), ambiguous=((98, 140),))
    assert open_cuts(truth, [45, 100, 120, 200]) == (45, 120)      # 100 is labelled, 200 is counted as false


def test_overlap_is_of_the_shorter_range():
    assert overlap((0, 9), (0, 9)) == 1.0
    assert overlap((0, 9), (5, 14)) == 0.5
    assert overlap((0, 9), (2, 3)) == 1.0
    assert overlap((0, 9), (10, 19)) == 0.0
    assert overlap((4, 4), (4, 4)) == 1.0


@pytest.mark.parametrize(("found", "expected", "result"), [
    ([(0, 9)], [(5, 14)], (1, 0, 0)),
    ([(0, 9)], [(6, 15)], (0, 1, 1)),
    ([(0, 4), (5, 9)], [(0, 9)], (1, 1, 0)),                   # one transition found in two pieces
    ([(0, 40)], [(0, 9), (20, 29)], (1, 0, 1)),
    ([(0, 20), (0, 9)], [(0, 9), (11, 20)], (2, 0, 0)),        # the long one could be both, the short one only the first
])
def test_transitions_match_by_half_of_the_shorter(found, expected, result):
    assert counts(match_ranges(found, expected)) == result


def test_transition_in_an_ambiguous_range_is_not_counted():
    assert counts(match_ranges([(50, 60)], [], [(52, 80)])) == (0, 0, 0)
    assert counts(match_ranges([(20, 30)], [], [(52, 80)])) == (0, 1, 0)


@pytest.mark.parametrize(("agreement", "values"), [
    (Agreement(), (1.0, 1.0, 1.0)),
    (Agreement(false_positives=1), (0.0, 0.0, 0.0)),
    (Agreement(false_negatives=1), (0.0, 0.0, 0.0)),
    (Agreement(true_positives=3, false_positives=1), (0.75, 1.0, 6 / 7)),
    (Agreement(true_positives=1, false_positives=1, false_negatives=3), (0.5, 0.25, 2 / 6)),
])
def test_precision_recall_and_f1(agreement, values):
    assert (agreement.precision, agreement.recall, agreement.f1) == pytest.approx(values)


def test_verdicts_are_counted_in_all_four_ways():
    agreement = judge_binary([(True, True), (True, False), (False, True), (False, False), (False, False)])
    assert agreement == Agreement(1, 1, 1, 2)
    assert agreement.accuracy == 3 / 5
    assert agreement + agreement == Agreement(2, 2, 2, 4)


def test_labels_beyond_the_end_of_a_broken_film_are_not_missed():
    truth = Truth("film", hard_cuts=(40, 200), gradual=((90, 105), (250, 260)))
    agreements, mistakes = compare_cuts(truth, [40], 100)
    assert agreements[0] == Agreement(true_positives=1)
    assert mistakes == []
    agreement, mistakes = compare_graduals(truth, [(92, 99)], 100)
    assert agreement == Agreement()             # half of it is in the file: neither right nor wrong
    assert mistakes == []


def test_what_is_not_labelled_is_not_judged():
    agreements, mistakes = compare_cuts(Truth("film"), [10, 20], 100)
    assert set(agreements.values()) == {Agreement()}
    assert mistakes == []
    assert compare_graduals(Truth("film"), [(10, 20)], 100)[0] == Agreement()


def test_suggested_limit_is_the_middle_of_the_widest_best_stretch():
    good, bad = Agreement(true_positives=4), Agreement(true_positives=4, false_positives=1)
    assert suggest({0.1: good, 0.2: bad, 0.3: good, 0.4: good, 0.5: good, 0.6: bad}) == 0.4
    assert suggest({0.1: good, 0.2: good, 0.3: bad}) == pytest.approx(0.15)
    assert suggest({0.1: Agreement(false_positives=1), 0.2: Agreement()}) is None      # nothing was labelled


def test_smallest_label_is_a_file_and_its_cuts(tmp_path):
    (tmp_path / "one.json").write_text(json.dumps({"file": "film.mp4", "hard_cuts": [90, 12]}))
    [truth] = read_truths(tmp_path)
    assert (truth.file, truth.hard_cuts, truth.gradual, truth.shots) == ("film.mp4", (12, 90), None, ())
    assert read_truths(tmp_path / "one.json") == [truth]


@pytest.mark.parametrize(("values", "sentence"), [
    ([], '"file" must be the name of a film'),
    ({"hard_cuts": [1]}, '"file" must be the name of a film'),
    ({"file": "a", "hard_cuts": [1.5]}, '"hard_cuts" holds 1.5'),
    ({"file": "a", "hard_cuts": 7}, '"hard_cuts" must be a list'),
    ({"file": "a", "gradual": [{"start": 9, "end": 3}]}, "ends at 3 before it starts at 9"),
    ({"file": "a", "shots": [{"start": 0}]}, '"shots" needs "start" and "end"'),
    ({"file": "a", "shots": [{"start": 0, "end": 9, "text": "much"}]}, '"text" is \'much\'; write none, some, heavy'),
    ({"file": "a", "shots": [{"start": 0, "end": 9, "static": "yes"}]}, "write true or false"),
])
def test_wrong_label_is_told_by_name(values, sentence):
    with pytest.raises(ValueError, match=r"\S") as caught:
        parse_truth(values)
    assert sentence in str(caught.value)


def test_missing_empty_and_double_labels_are_user_errors(tmp_path):
    (tmp_path / "labels").mkdir()
    with pytest.raises(UserError, match="holds no label"):
        read_truths(tmp_path / "labels")
    with pytest.raises(UserError, match=r"Did you mean .*labels\?"):
        read_truths(tmp_path / "lables")
    for name in ("a", "b"):
        (tmp_path / "labels" / f"{name}.json").write_text('{"file": "film.mp4"}')
    with pytest.raises(UserError, match=r"labels film\.mp4 a second time"):
        read_truths(tmp_path / "labels")
    (tmp_path / "labels" / "b.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        read_truths(tmp_path / "labels")
