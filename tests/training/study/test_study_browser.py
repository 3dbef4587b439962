"""Promise: the page works in a browser from a folder, by keyboard alone, and what it saves is what the analysis reads."""

import html
import json
import re
import shutil
import subprocess

import pytest
from study_results import hand_in, make_study

from training.study.analysis import analyse
from training.study.config import AnalyseOptions
from training.study.key import CLIP, ORIGINAL

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

# Plays participants: types a code, waits for the films, presses the key of the wanted film for each question, and Enter.
PLAY = """
<script>
const labels = LABELS, wanted = WANTED, done = [];
const press = key => document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
const ready = film => film.readyState >= 3 || new Promise((yes, no) => {
  film.addEventListener("canplay", yes, { once: true });
  film.addEventListener("error", () => no(new Error(film.src)), { once: true });
});
async function play(participant) {
  element("participant").value = participant;
  element("begin").requestSubmit();
  while (!element("trial").hidden) {
    const films = [...document.querySelectorAll("video")];
    await Promise.all(films.map(ready));
    for (const question of study.questions) {
      const names = films.map(film => film.src.split("/").pop().replace(".mp4", ""));
      press(String(1 + names.findIndex(name => [wanted[participant], "ORIGINAL"].includes(labels[name]))));
    }
    document.activeElement.click();       // the focus has moved on to the button, where Enter clicks
  }
  done.push(element("answers").value);
  element("another").click();
}
(async () => {
  for (const participant of Object.keys(wanted)) await play(participant);
  document.body.textContent = "ANSWERS" + JSON.stringify(done) + "END";
})().catch(error => { document.body.textContent = "FAILED " + error; });
</script>
"""


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="neither chromium nor google-chrome is installed")
def test_participants_at_the_keyboard_give_the_expected_table(tmp_path):
    key = make_study(tmp_path).key
    page = tmp_path / "study" / "page" / "index.html"
    labels = {film: label for trial in key.trials.values() for film, label in trial.labels.items()}
    wanted = {"p01": "aardvark", "p02": "basilisk", "p03": "basilisk"}
    script = PLAY.replace("LABELS", json.dumps(labels)).replace("WANTED", json.dumps(wanted)).replace("ORIGINAL", ORIGINAL)
    (page.parent / "played.html").write_text(page.read_text().replace("</body>", script + "</body>"))
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile",
               "--virtual-time-budget=60000", "--dump-dom", (page.parent / "played.html").as_uri()]
    dumped = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    found = re.search("ANSWERS(.*)END", html.unescape(dumped.stdout), re.DOTALL)
    assert found, dumped.stdout[-2000:] + dumped.stderr[-2000:]
    for text in json.loads(found[1]):
        hand_in(tmp_path / "study" / "answers", json.loads(text))
    result = analyse(AnalyseOptions(answers=str(tmp_path / "study" / "answers"), resamples=100))
    assert not result.collected.left_out and not result.collected.failed
    assert sum(trial.kind == CLIP for trial in key.trials.values()) == 2
    for row in result.shares.values():
        assert {system: share.votes for system, share in row.items() if share.votes} == {"aardvark": 2, "basilisk": 4}
