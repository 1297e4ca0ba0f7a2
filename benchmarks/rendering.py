"""Scenes a second of the embedded world: sampled, drawn, described; one process, and several.

    python -m benchmarks.rendering --scenes 4000 --workers 2

Backgrounds are cached when first used; that is done before the clock starts and reported by itself. One process is
timed by its CPU seconds too, which other work on the machine disturbs less.
"""

import argparse
import time

import numpy as np

from benchmarks.report import memory_gib, record, timed
from secondlens.world import caption, render, render_many, scene_at
from secondlens.world.drawing.backgrounds import MARGIN, PAINTERS, VARIANTS, variant


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=4000)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    count, size = arguments.scenes, arguments.size

    def warm() -> None:
        for background in PAINTERS:
            for number in range(VARIANTS):
                variant(background, number, round(size * MARGIN))

    once, _ = timed(warm)
    sampling, scenes = timed(lambda: [scene_at(0, index) for index in range(count)])
    started = time.process_time()
    alone, _ = timed(lambda: [render(scene, size) for scene in scenes])
    processor = time.process_time() - started
    words, _ = timed(lambda: [caption(scene, np.random.default_rng(0)) for scene in scenes])
    # Workers start and draw their backgrounds within the time: the rate of a long run is that of the later half.
    stream = render_many(scenes * 2, size, workers=arguments.workers)
    for _ in range(count):
        next(stream)
    together, _ = timed(lambda: list(stream))
    record(
        "rendering",
        {
            "scenes": count,
            "size": size,
            "workers": arguments.workers,
            "backgrounds_once_seconds": round(once, 2),
            "sampled_per_second": round(count / sampling),
            "drawn_per_second": round(count / alone),
            "drawn_per_cpu_second": round(count / processor),
            "captions_per_second": round(count / words),
            "drawn_per_second_by_workers": round(count / together),
            "peak_memory_gib": memory_gib(),
        },
    )


if __name__ == "__main__":
    main()
