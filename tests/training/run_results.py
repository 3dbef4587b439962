"""What a training left behind, to be compared with another one's."""

import hashlib
import json

import torch
from safetensors.torch import load_file


def status(run_dir):
    return json.loads((run_dir / "status.json").read_text())


def losses(run_dir, prefix="train/"):
    """{step: {name: value}}; a step that was done twice must have come to the same both times."""
    found = {}
    for line in (run_dir / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        values = {name: value for name, value in record.items() if name.startswith(prefix)}
        if values:
            before = found.setdefault(record["step"], values)
            assert before == values, f"step {record['step']} came to other losses the second time"
    return found


def last_checkpoint(run_dir):
    return run_dir / status(run_dir)["checkpoint"]


def assert_same_run(found, expected):
    """Bit for bit: every loss, every weight, average, moment and buffer of every rank."""
    assert losses(found) == losses(expected)
    assert losses(found, "heldout/") == losses(expected, "heldout/")
    files = sorted(path.relative_to(last_checkpoint(expected)) for path in last_checkpoint(expected).rglob("*.safetensors"))
    assert len(files) >= 2
    for file in files:
        left, right = load_file(last_checkpoint(found) / file), load_file(last_checkpoint(expected) / file)
        assert left.keys() == right.keys()
        for name, tensor in left.items():
            assert torch.equal(tensor, right[name]), f"{file}: {name} differs"


# The adaptive weight is a ratio of two norms, and a judge that hardly knows anything yet has a gradient that is nearly all rounding;
# it enters the norm of the decoder's gradient. The weights that come of it are compared as all others.
ILL_CONDITIONED = {"train/gan_weight": 1e-3, "train/grad_norm_decoder": 1e-3}


def assert_close_run(found, expected, *, atol=1e-6, rtol=1e-6):
    """Losses, weights and averages of another engine. Running statistics are each rank's own and change no result."""
    left, right = losses(found), losses(expected)
    assert left.keys() == right.keys()
    for step, values in left.items():
        for name, value in values.items():
            torch.testing.assert_close(value, right[step][name], atol=atol, rtol=ILL_CONDITIONED.get(name, rtol),
                                       msg=_at(f"step {step}, {name}"))
    for file in ("weights.safetensors", "weights_ema.safetensors"):
        weights, others = load_file(last_checkpoint(found) / file), load_file(last_checkpoint(expected) / file)
        assert weights.keys() == others.keys()
        for name in (name for name in weights if "running_" not in name and "num_batches" not in name):
            torch.testing.assert_close(weights[name], others[name], atol=atol, rtol=rtol, msg=_at(name))


def _at(place):
    return lambda text: f"{place}: {text}"


def folder_digest(folder):
    """Of every file's name and bytes."""
    found = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        found.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return found.hexdigest()
