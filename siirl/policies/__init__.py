"""VLA policies, one file each; `load_policy` is the way in from outside of a run."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from siirl.policies.load import load_policy

__all__ = ["load_policy"]


def __getattr__(name: str) -> Any:
    """`load_policy`, imported when it is asked for: it takes timm, which the contract in ``base`` does without."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from siirl.policies.load import load_policy

    return load_policy
