"""Small results of made-up systems, and participants who know what they prefer."""

import json

import numpy as np
from PIL import Image

from training.study.answers import seen_by
from training.study.config import BuildOptions
from training.study.key import ORIGINAL, QUESTIONS
from training.study.page import build

SYSTEMS = ("aardvark", "basilisk", "cormorant", "dromedary", "echidna")
WIDTH, HEIGHT = 48, 32


def film(clip, system, num_frames=6, height=HEIGHT, width=WIDTH):
    """A bright bar that crosses a dark picture; place and tone depend on clip and system."""
    frames = np.full((num_frames, height, width, 3), 20 + 10 * system, np.uint8)
    for index in range(num_frames):
        left = (index * 7 + 3 * clip) % (width - 8)
        frames[index, :, left:left + 8] = (220, 200 - 20 * clip % 100, 240 - 15 * system)
    return frames


def write_pictures(folder, frames):
    folder.mkdir(parents=True)
    for index, frame in enumerate(frames, start=1):
        Image.fromarray(frame).save(folder / f"{index:04d}.png")


def write_results(folder, num_clips=2, systems=SYSTEMS):
    """FOLDER/SYSTEM/CLIP/0001.png ... for all systems and clips."""
    for number, system in enumerate(systems):
        for clip in range(num_clips):
            write_pictures(folder / system / f"clip{clip}", film(clip, number))
    return folder


def make_study(folder, num_clips=2, systems=SYSTEMS, **options):
    """Builds a study of made-up results under folder/study."""
    results = write_results(folder / "results", num_clips, systems)
    return build(BuildOptions(systems=str(results), out=str(folder / "study"), clips=num_clips, **options))


def answer(key, participant, prefers, is_attentive=True):
    """The record that the page writes for a participant; prefers(clip, question) -> system."""
    def choose(trial, question, order):
        wanted = prefers(trial.clip, question) if trial.kind == "clip" else ORIGINAL
        is_wanted = {film: trial.labels[film] == wanted for film in order}
        if trial.kind != "clip" and not is_attentive:
            return next(film for film in order if not is_wanted[film])
        return next(film for film in order if is_wanted[film])

    answers = [{"trial": name, "order": order,
                "choices": {question: choose(key.trials[name], question, order) for question in QUESTIONS}}
               for name, order in seen_by(participant, key)]
    return {"schema": 1, "study": key.study, "participant": participant, "answers": answers}


def hand_in(folder, record):
    """Puts an answer where the participant's browser would have saved it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{record['participant']}.json"
    path.write_text(json.dumps(record, indent=1))
    return path
