"""VLA policies, one file each; `load_policy` is the way in from outside of a run."""

from siirl.policies.load import load_policy

__all__ = ["load_policy"]
