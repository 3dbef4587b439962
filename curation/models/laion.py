"""LAION's aesthetic heads on CLIP's picture vectors: version 1 (one linear layer) and version 2 (five).

Version 2 has dropout and nothing else between its layers (christophschuhmann/improved-aesthetic-predictor), so in use it is
one affine map, and is folded into one when it is loaded: 768 products instead of 900,000. Both want vectors of length 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from curation.models.config import AestheticName
from pipeline.errors import UserError

V2_LAYERS = (0, 2, 4, 6, 7)  # of its sequence; dropout lies between


@dataclass(frozen=True, slots=True)
class AestheticHead:
    """score = weight . vector + bias"""

    weight: NDArray[np.float64]      # [d]
    bias: float

    def score(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """Scores [n] of unit vectors [n, d], in practice 3 to 7; ValueError for vectors of another CLIP."""
        if vectors.shape[1] != len(self.weight):
            raise ValueError(f"this aesthetic head wants CLIP vectors of {len(self.weight)} numbers, not {vectors.shape[1]}")
        return np.asarray(vectors.astype(np.float64) @ self.weight + self.bias, np.float64)


def load_head(name: AestheticName, weights: Path) -> AestheticHead:
    """UserError where the file is no head of this version."""
    from pipeline.weights import read_tensors

    tensors = {key: np.asarray(value.double().numpy(), np.float64) for key, value in read_tensors(weights).items()}
    try:
        if name is AestheticName.LAION_V1:
            return AestheticHead(tensors["weight"][0], float(tensors["bias"][0]))
        return fold([(tensors[f"layers.{index}.weight"], tensors[f"layers.{index}.bias"]) for index in V2_LAYERS])
    except KeyError as error:
        raise UserError(f"models.aesthetic.weights={weights} is no head of {name.value}", f"it holds no {error.args[0]}",
                        "Give models.aesthetic.name and weights that belong together") from error


def fold(layers: list[tuple[NDArray[np.float64], NDArray[np.float64]]]) -> AestheticHead:
    """One affine map of linear layers (weight [out, in], bias [out]), the last of which has one output; in float64."""
    weight, bias = layers[0]
    for matrix, offset in layers[1:]:
        weight, bias = matrix @ weight, matrix @ bias + offset
    return AestheticHead(weight[0], float(bias[0]))
