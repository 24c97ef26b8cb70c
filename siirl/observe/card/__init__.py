"""The model card of an exported policy: ``README.md`` with metadata, as the Hugging Face Hub shows it."""

from siirl.observe.card.metadata import is_hub_name
from siirl.observe.card.page import Exported, card

__all__ = ["Exported", "card", "is_hub_name"]
