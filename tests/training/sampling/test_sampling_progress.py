"""Promise: a terminal gets a bar, a log a few plain lines that end with the last piece of work."""

import io

from rich.console import Console

from training.sampling.progress import progress


def shown(total, *, is_terminal):
    text = io.StringIO()
    with progress(Console(file=text, force_terminal=is_terminal, width=80), "clip 1 of 2: steps", total) as advance:
        for _ in range(total):
            advance()
    return text.getvalue()


def test_log_has_few_plain_lines_and_the_last_one_is_complete():
    lines = shown(50, is_terminal=False).splitlines()
    assert lines == [f"clip 1 of 2: steps {done}/50" for done in (10, 20, 30, 40, 50)]
    assert shown(2, is_terminal=False).splitlines() == ["clip 1 of 2: steps 1/2", "clip 1 of 2: steps 2/2"]
    assert shown(1, is_terminal=False) == "clip 1 of 2: steps 1/1\n"


def test_terminal_has_a_bar():
    text = shown(3, is_terminal=True)
    assert "\x1b[" in text and "clip 1 of 2: steps" in text and "3/3" in text
