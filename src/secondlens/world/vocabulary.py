"""The words of the embedded world: what can be drawn, and what each thing may be called in a caption.

The first word of every entry is the canonical one, used in scenes, tables and labels; the others are synonyms that
captions use now and then. No word stands for two things.
"""

NOUN_WORDS: dict[str, tuple[str, ...]] = {
    "cat": ("cat", "kitten"),
    "dog": ("dog", "puppy"),
    "bird": ("bird", "songbird"),
    "fish": ("fish",),
    "rabbit": ("rabbit", "bunny"),
    "elephant": ("elephant",),
    "giraffe": ("giraffe",),
    "butterfly": ("butterfly", "moth"),
    "snake": ("snake", "serpent"),
    "turtle": ("turtle", "tortoise"),
    "car": ("car", "automobile"),
    "boat": ("boat", "sailboat"),
    "airplane": ("airplane", "plane"),
    "train": ("train", "locomotive"),
    "bicycle": ("bicycle", "bike"),
    "rocket": ("rocket", "spaceship"),
    "tree": ("tree",),
    "flower": ("flower", "blossom"),
    "cactus": ("cactus",),
    "mushroom": ("mushroom", "toadstool"),
    "hammer": ("hammer", "mallet"),
    "scissors": ("scissors", "shears"),
    "key": ("key",),
    "umbrella": ("umbrella", "parasol"),
    "banana": ("banana",),
    "carrot": ("carrot",),
    "cake": ("cake",),
    "house": ("house", "cottage"),
    "castle": ("castle", "fortress"),
    "lighthouse": ("lighthouse", "beacon"),
    "ball": ("ball",),
    "chair": ("chair",),
}
"""32 nouns; their groups are the files of `world.drawing`."""

COLOUR_WORDS: dict[str, tuple[str, ...]] = {
    "red": ("red", "crimson"),
    "orange": ("orange",),
    "yellow": ("yellow", "golden"),
    "green": ("green", "emerald"),
    "blue": ("blue", "azure"),
    "purple": ("purple", "violet"),
    "pink": ("pink", "rosy"),
    "brown": ("brown", "chestnut"),
    "black": ("black", "ebony"),
    "white": ("white", "ivory"),
}

TEXTURE_WORDS: dict[str, tuple[str, ...]] = {
    "plain": ("plain", "smooth"),
    "striped": ("striped", "stripy"),
    "dotted": ("dotted", "spotted"),
    "checked": ("checked", "chequered"),
}

BACKGROUND_WORDS: dict[str, tuple[str, ...]] = {
    "sea": ("sea", "ocean"),
    "desert": ("desert", "sand"),
    "meadow": ("meadow", "grass"),
    "forest": ("forest", "woods"),
    "snow": ("snow",),
    "city": ("city", "town"),
    "night": ("night", "dark"),
    "room": ("room", "parlour"),
}

SIZE_WORDS: dict[str, tuple[str, ...]] = {
    "small": ("small", "little"),
    "medium": ("medium",),
    "large": ("large", "big"),
}

PLACES = ("left", "right", "top", "bottom", "middle")

NOUNS = tuple(NOUN_WORDS)
COLOURS = tuple(COLOUR_WORDS)
TEXTURES = tuple(TEXTURE_WORDS)
BACKGROUNDS = tuple(BACKGROUND_WORDS)
SIZES = tuple(SIZE_WORDS)

PLURAL_NOUNS = frozenset({"scissors"})
"""Nouns that take no article: 'scissors', not 'a scissors'."""

PROPERTIES: dict[str, tuple[str, ...]] = {
    "noun": NOUNS,
    "colour": COLOURS,
    "texture": TEXTURES,
    "background": BACKGROUNDS,
    "size": SIZES,
    "place": PLACES,
}
"""Every property and its canonical values."""

SYNONYMS: dict[str, dict[str, tuple[str, ...]]] = {
    "noun": NOUN_WORDS,
    "colour": COLOUR_WORDS,
    "texture": TEXTURE_WORDS,
    "background": BACKGROUND_WORDS,
    "size": SIZE_WORDS,
}
"""Property -> canonical value -> its words, the canonical one first."""

MEANINGS: dict[str, tuple[str, str]] = {
    word: (kind, value) for kind, table in SYNONYMS.items() for value, words in table.items() for word in words
}
"""Any word of the vocabulary -> (property, canonical value)."""
