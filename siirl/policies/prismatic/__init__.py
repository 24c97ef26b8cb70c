"""The Prismatic vision-language-action network behind OpenVLA and OpenVLA-OFT, by its published parameter names."""
