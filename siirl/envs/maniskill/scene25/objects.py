"""What lies on the table: the objects and plates of the published asset folder, in its order, which numbers them."""

OBJECTS = (
    "001_carrot_simpler",
    "002_kitchen shovel_1",
    "003_bread_1",
    "004_plastic bottle_1",
    "005_7up can_1",
    "006_zuchinni_1",
    "007_ketchup bottle_1",
    "008_watering can_1",
    "009_pipe_1",
    "010_toy bear_1",
    "011_fast food cup_1",
    "012_plant_1",
    "013_banana_1",
    "014_hamburger_1",
    "015_golf ball_1",
    "016_BBQ sauce_1",
    "017_travel cup_1",
    "018_pepper_1",
    "019_nonstop can_1",
    "020_potato_1",
    "021_baguette_1",
    "022_champagne glass_1",
    "023_kitchen spoon_1",
    "024_onion_1",
    "025_cup_1",
)
"""Folders of what is picked up, 16 to train with and 9 held out."""

PLATES = (
    "001_plate_simpler",
    "002_cloth_1",
    "003_carpet_1",
    "004_newspaper_1",
    "005_sheet metal_1",
    "006_drawing tablet_1",
    "007_tomato slice_1",
    "008_pizza_1",
    "009_flat bowl_1",
    "010_gramophone disk_1",
    "011_frying pan_1",
    "012_mouse pad_1",
    "013_cutting board_1",
    "014_chess board_1",
    "015_manhole cover_1",
    "016_envelope_1",
    "017_notepad_1",
)
"""Folders of what it is put on, 1 to train with and 16 held out."""

NUM_TABLES = 21
"""Pictures of tables, 16 to train with and 5 held out."""


def spoken(folder: str) -> str:
    """The words for a folder's object: ``"002_kitchen shovel_1"`` → ``"kitchen shovel"``."""
    return folder.split("_")[1]
