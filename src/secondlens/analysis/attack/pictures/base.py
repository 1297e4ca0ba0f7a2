"""What every text-to-image back end can do, and how its pictures are written."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from PIL import Image
from PIL.PngImagePlugin import PngInfo

import secondlens
from secondlens.disk.files import write_whole

# IPTC's word for pictures made by a model: what viewers and archives look for.
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
DRAWN_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/algorithmicMedia"
NOTICE = "Synthetic image, generated to audit a vision model for spurious cues; not a photograph"


@dataclass(frozen=True)
class Order:
    """One picture to be made. name: of its file, without ending. seed: the same gives the same picture, where the
    back end obeys it.
    """

    prompt: str
    seed: int
    name: str


@dataclass(frozen=True)
class Made:
    """A picture, and what its maker knows of it (JSON-able; e.g. the scene it shows)."""

    image: Image.Image
    metadata: dict[str, Any] = field(default_factory=dict)


@runtime_checkable
class ImageMaker(Protocol):
    """A text-to-image model. settings: what changes its pictures; keys never belong there. drawn: whether a program
    draws the pictures, rather than a trained model.
    """

    name: str
    settings: dict[str, object]
    drawn: bool

    def make(self, order: Order) -> Made:
        """The picture of an order; raises a `SecondLensError` where there is none."""
        ...


def save_marked(made: Made, path: Path, order: Order, maker: str, drawn: bool = False) -> None:
    """Write a PNG, atomically, whose metadata say that it is synthetic, what made it and of which prompt."""
    info = PngInfo()
    info.add_text("Software", f"secondlens {secondlens.__version__}")
    info.add_itxt("Comment", NOTICE)
    info.add_itxt("Description", order.prompt)
    info.add_text("Source", f"{maker}, seed {order.seed}")
    info.add_itxt("secondlens", json.dumps({"synthetic": True, "maker": maker, "seed": order.seed,
                                            "prompt": order.prompt}, ensure_ascii=False))  # fmt: skip
    info.add_itxt("XML:com.adobe.xmp", _xmp(DRAWN_TYPE if drawn else SOURCE_TYPE))
    write_whole(path, lambda temporary: made.image.save(temporary, "PNG", pnginfo=info))


def _xmp(kind: str) -> str:
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
        'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
        f'Iptc4xmpExt:DigitalSourceType="{kind}"/></rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
    )
