"""How the goal is worded. These are the benchmark's own sentences: a policy is compared on exactly them."""

TEMPLATES = (
    "put {object} on {plate}",
    "Place the {object} on the {plate}",
    "set {object} on {plate}",
    "move the {object} to the {plate}",
    "Take the {object} and put it on the {plate}",
    "pick up {object} and set it down on {plate}",
    "please put the {object} on the {plate}",
    "Put {object} onto {plate}.",
    "place the {object} onto the {plate} surface",
    "Make sure {object} is on {plate}.",
    "on the {plate}, put the {object}",
    "put the {object} where the {plate} is",
    "Move the {object} from the table to the {plate}",
    "Move {object} so it’s on {plate}.",
    "Can you put {object} on {plate}?",
    "{object} on the {plate}, please.",
    "the {object} should be placed on the {plate}.",
)
"""The first is used everywhere; the other 16 are held out for PutOnPlateInScene25Instruct-v1."""


def instruction(object_name: str, plate_name: str, template: int = 0) -> str:
    """The goal in words, e.g. ``put carrot on plate``."""
    return TEMPLATES[template].format(object=object_name, plate=plate_name)
