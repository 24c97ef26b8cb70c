"""The Prismatic vision-language-action network behind OpenVLA and OpenVLA-OFT, by its published parameter names."""

import siirl.torchvision_shim  # noqa: F401  (the modules of this package import timm and transformers)
