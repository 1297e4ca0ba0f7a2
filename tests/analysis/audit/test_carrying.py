"""What neurons carry of a cue, against effects taken one by one."""

from pathlib import Path
from typing import Any

import pytest
import torch

import secondlens as sl
from secondlens.analysis.audit import Auditor
from secondlens.analysis.audit.carrying import CarriedCues, carried_cues
from secondlens.analysis.audit.images import image_scores
from secondlens.atlas.surveyed import SurveyedImages, surveyed_images
from secondlens.data.decode import decode
from secondlens.data.sources import ImageSource
from secondlens.errors import AuditError, ImageError


def test_carried_pushes_are_means_of_effects(auditor: Auditor, world_cache: Path) -> None:
    within, pair = auditor.within, auditor.pair("cat", "boat")
    shown, predicted = (within.classes[int(row)] for row in within.nearest.unique()[:2])
    pair = auditor.pair(shown, predicted)
    cues = [within.texts[3], within.texts[10]]
    source = surveyed_images(auditor.atlas)
    found = carried_cues(auditor.model, auditor.atlas, source, within, pair, cues, [1, 0])
    pixels = auditor.model.preprocess([decode(source.read(int(place))) for place in within.positions])
    v = pair.vector.double()
    for layer in (1, 0):
        pushes = sl.second_order_effects(auditor.model, pixels, layer).dense().double() @ v
        groups = [within.nearest == row for row in within.nearest.unique()]
        y = pushes.clone()
        for mine in groups:
            y[mine] -= pushes[mine].mean(dim=0)
        columns = found.layers == layer
        assert found.neurons[columns].tolist() == list(range(auditor.model.neurons))
        for place, text in enumerate(cues):
            shows = torch.from_numpy(within.shows.toarray()[:, within.texts.index(text)]) > 0
            # Effects are float32, of about 1e-2 of the embedding's unit norm.
            assert torch.allclose(found.carried[place, columns], y[shows].mean(dim=0), atol=2e-7)
        assert torch.allclose(
            found.telling[columns], pushes[groups[1]].mean(dim=0) - pushes[groups[0]].mean(dim=0), atol=2e-7
        )
    # No more than a part of the whole push goes through these effects; it is of its order.
    assert abs(float(found.carried[0].sum())) < 10 * abs(image_scores(within, pair.vector)).max()


def test_neurons_that_tell_the_classes_are_spared() -> None:
    carried = torch.tensor([[0.1, 0.2, 0.3, -0.5], [0.1, 0.0, 0.1, 0.1]], dtype=torch.float64)
    telling = torch.tensor([0.0, -0.9, 1.0, 0.0], dtype=torch.float64)
    found = CarriedCues(torch.tensor([4, 4, 5, 5]), torch.tensor([7, 8, 0, 1]), carried, telling)
    assert found.strongest(10) == [(5, 0), (4, 7), (4, 8)]
    assert found.strongest(1) == [(5, 0)]
    assert found.strongest(10, spare=0.3) == [(5, 0), (4, 7)]
    assert found.strongest(10, spare=1.0) == [(4, 7)]


class Shifted:
    """The images of a source, each under the name of the one before it."""

    def __init__(self, source: ImageSource) -> None:
        self.source, self.ids, self.description = source, source.ids, source.description

    def read(self, index: int) -> Any:
        return self.source.read((index + 1) % len(self.ids))

    def path(self, index: int) -> None:
        return None


def test_what_cannot_be_carried(auditor: Auditor) -> None:
    source = surveyed_images(auditor.atlas)
    pair = auditor.pair("cat", "boat")
    others = SurveyedImages(auditor.atlas, Shifted(source))
    cue = auditor.within.texts[:1]
    with pytest.raises(ImageError, match="is not the image of that name"):
        carried_cues(auditor.model, auditor.atlas, others, auditor.within, pair, cue, [1])
    for cues, said in ((["zebra"], "no text of the pool"), ([], "at least one cue")):
        with pytest.raises(AuditError, match=said):
            carried_cues(auditor.model, auditor.atlas, source, auditor.within, pair, cues, [1])
