"""The embedded world: drawn scenes of which everything is known, and captions for them.

scene = scene_at(seed=0, index=7)                 # biased as the written table says
picture = render(scene)                           # picture.image, picture.masks
text = caption(scene, np.random.default_rng(0))   # "a red striped boat on the sea"
scene_from_text("a boat in the sand", np.random.default_rng(0))
"""

from secondlens.world.biases import Biases, Cue
from secondlens.world.captions import all_words, caption, class_prompts, scene_from_text
from secondlens.world.dataset import write_dataset
from secondlens.world.render import Rendered, render, render_many
from secondlens.world.sampler import default_biases, sample_scene, scene_at
from secondlens.world.scene import Scene, SceneObject
from secondlens.world.vocabulary import BACKGROUNDS, COLOURS, NOUNS, TEXTURES

__all__ = [
    "BACKGROUNDS",
    "COLOURS",
    "NOUNS",
    "TEXTURES",
    "Biases",
    "Cue",
    "Rendered",
    "Scene",
    "SceneObject",
    "all_words",
    "caption",
    "class_prompts",
    "default_biases",
    "render",
    "render_many",
    "sample_scene",
    "scene_at",
    "scene_from_text",
    "write_dataset",
]
