"""StarVLA's policies: a Qwen-VL whose hidden states an action head reads (github.com/starVLA/starVLA)."""

import siirl.torchvision_shim  # noqa: F401  (the modules of this package import transformers)
from siirl.policies.starvla.frameworks.qwen_oft import QwenOFT
from siirl.policies.starvla.policy import StarVLA

__all__ = ["QwenOFT", "StarVLA"]
