"""RAFT as the estimator of flow, for warping errors nearer to published ones than DIS gives.

Source: Teed and Deng (arXiv 2003.12039); torchvision's networks and files. On black or plain regions RAFT invents motion, so for
drawings it is the second opinion and not the default.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from training.metrics.feature_weights import exact_convolutions, fill, frozen, read_weights

MULTIPLE_PX, LEAST_PX = 8, 128      # sides that torchvision's RAFT accepts
NUM_UPDATES = 20                    # more than the default 12: flat paint converges slowly


def load_raft(variant: str, reference: str, device: torch.device | str = "cpu") -> tuple[Callable[[Tensor, Tensor], Tensor], str]:
    """Returns a flow estimator, for `motion.Motion`, and the id of its weights; `variant` is raft_small or raft_large.

    UserError where the file is absent or holds another network.
    """
    tensors, weights = read_weights(reference, f"warping error ({variant})")

    from torchvision.models import optical_flow

    network = {"raft_small": optical_flow.raft_small, "raft_large": optical_flow.raft_large}[variant](weights=None)
    fill(network, tensors, source=reference)
    network = frozen(network, device)

    def flow(first: Tensor, second: Tensor) -> Tensor:
        height, width = first.shape[-2:]
        pair = torch.stack([first, second]).to(device, torch.float32)
        padding = (0, _missing_px(width), 0, _missing_px(height))
        padded = F.pad(2 * pair - 1, padding, mode="replicate")
        with torch.no_grad(), exact_convolutions():
            found = network(padded[:1], padded[1:], num_flow_updates=NUM_UPDATES)[-1]
        return found[0, :, :height, :width].cpu()

    return flow, weights


def _missing_px(side_px: int) -> int:
    return max(LEAST_PX, -(-side_px // MULTIPLE_PX) * MULTIPLE_PX) - side_px
