"""`merge_parts`: partial results of all parts of a survey, merged exactly into one atlas."""

from collections.abc import Sequence
from pathlib import Path

from secondlens.atlas.manifest import EMBEDDINGS, MANIFEST, THUMBNAILS, LayerMetadata, layer_file
from secondlens.atlas.store import Atlas
from secondlens.disk.files import sha256, write_tensors, write_text
from secondlens.disk.lock import one_writer
from secondlens.errors import SurveyError
from secondlens.lens.layer import LayerStatistics
from secondlens.lens.load import load_model
from secondlens.lens.model import LensModel
from secondlens.lens.paths import paths_of
from secondlens.progress import Progress, silent
from secondlens.surveys.finish import SurveyedImages, collect_extras, layer_summary, read_result, write_manifest
from secondlens.surveys.parts import PartialResult, complete, merged_statistics, require_no_part, require_same_images
from secondlens.surveys.run import replace_rows, second_scan


def merge_parts(
    parts: Sequence[str | Path],
    out: str | Path,
    model: LensModel | str | None = None,
    progress: Progress = silent,
) -> Atlas:
    """Merge partial results into an atlas; those of a second pass into the atlas that it is about.

    parts: folders that `survey_shard` wrote, in any order. out: the atlas's folder. model: the surveyed model or its
    reference, by default the parts' own.

    Raises `SurveyError` for missing, repeated or damaged parts, parts of different surveys or of another atlas, or too
    few images, and `AtlasError` where the folder cannot be written.
    """
    if not parts:
        raise SurveyError("nothing to merge: expected the folders of all parts of a survey, got none")
    out = Path(out)
    ordered = complete([PartialResult.open(Path(folder)) for folder in parts])
    manifest = ordered[0].manifest
    if model is None or isinstance(model, str):
        precision = manifest.settings["precision"].removeprefix("torch.")
        model = load_model(model or manifest.model.reference, dtype=precision)
    if model.weights_hash != manifest.model.weights_sha256:
        raise SurveyError(f"{model.reference} has other weights than the model that was surveyed; give that one")
    if manifest.scan == "second":
        atlas = Atlas.open(out)
        with one_writer(out):
            return _merge_second(ordered, atlas, model, progress)
    if (out / MANIFEST).exists():
        raise SurveyError(f"{out} holds an atlas already; choose another folder")
    require_no_part(out)
    with one_writer(out):
        return _merge_first(ordered, out, model, progress)


def _merge_first(ordered: Sequence[PartialResult], out: Path, model: LensModel, progress: Progress) -> Atlas:
    manifest, cards = ordered[0].manifest, []
    for number, layer in enumerate(manifest.layers):
        progress("merging layers", number, len(manifest.layers))
        empty = LayerStatistics(model.tower, layer, manifest.capacity, manifest.settings["convention"])
        statistics = merged_statistics(empty, ordered)
        if statistics.count < manifest.settings["top"]:
            raise SurveyError(
                f"top is {manifest.settings['top']}, but only {statistics.count} images could be read; survey the "
                "parts with a smaller --top, or more images"
            )
        result = statistics.result(manifest.settings["top"])
        write_tensors(out / layer_file(layer), result.tensors())
        cards.append(layer_summary(layer, paths_of(model.tower, layer), result, 0))
    progress("merging layers", len(manifest.layers), len(manifest.layers))
    skipped = {position: reason for partial in ordered for position, reason in partial.manifest.skipped.items()}
    images = SurveyedImages(ordered[0].ids(), manifest.source, skipped)
    collect_extras(
        out,
        [path for partial in ordered for path in partial.extra(EMBEDDINGS)],
        [path for partial in ordered for path in partial.extra(THUMBNAILS)],
    )
    seconds = sum(partial.manifest.seconds for partial in ordered)
    write_manifest(
        out, manifest.model, images, sorted(cards, key=_layer), manifest.settings, manifest.capacity, seconds
    )
    return Atlas.open(out)


def _merge_second(ordered: Sequence[PartialResult], atlas: Atlas, model: LensModel, progress: Progress) -> Atlas:
    out, manifest = atlas.folder, ordered[0].manifest
    unreadable = {image.id for image in atlas.skipped}
    skipped = {position for position, name in enumerate(atlas.source_ids) if name in unreadable}
    require_same_images(ordered, skipped, atlas.source_ids)
    cards, files = {card.layer: card for card in atlas.manifest.layers}, dict(atlas.manifest.files)
    for number, layer in enumerate(manifest.layers):
        progress("merging layers", number, len(manifest.layers))
        path, base = out / layer_file(layer), manifest.base[layer_file(layer)]
        scan = second_scan(out, 0, [layer])
        if files.get(path.name) != base or (scan.layers and sha256(path) != base):
            raise SurveyError(f"{path} is not the file that this second pass is about; give its atlas")
        if scan.rows and scan.means and scan.layers:
            convention, rows = manifest.settings["convention"], scan.rows[layer]
            empty = LayerStatistics(model.tower, layer, manifest.capacity, convention, rows, scan.means[layer])
            result = replace_rows(out, merged_statistics(empty, ordered), manifest.settings["top"])
        else:
            # A merge that was interrupted before it wrote the manifest has replaced this file.
            result = read_result(path)
        cards[layer] = layer_summary(layer, paths_of(model.tower, layer), result, cards[layer].uncertified)
        files[path.name] = sha256(path)
    progress("merging layers", len(manifest.layers), len(manifest.layers))
    seconds = round(atlas.manifest.seconds + sum(partial.manifest.seconds for partial in ordered), 1)
    changed = {"layers": sorted(cards.values(), key=_layer), "files": files, "seconds": seconds}
    write_text(out / MANIFEST, atlas.manifest.model_copy(update=changed).model_dump_json(indent=2))
    return Atlas.open(out)


def _layer(card: LayerMetadata) -> int:
    return card.layer
