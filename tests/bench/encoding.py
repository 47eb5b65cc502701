"""JPEG files of smallfry against those of Pillow: the same bytes for photographs, odd sizes and every quality?

    cargo build --release -p smallfry-data --example encoding
    python tests/bench/encoding.py FOLDER [FOLDER ..]

Encodes every picture below the folders, crops of them, noise of all sizes up to 70 x 70 and noise of every quality with
Pillow, lets the example `encoding` do the same and compare, and prints the time of both in megapixels a second.
"""

import io
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

import numpy
from PIL import Image

HERE = pathlib.Path(__file__).resolve().parent


def pictures(folders):
    """Pictures with the quality to encode each at."""
    random.seed(1)
    numpy.random.seed(1)
    files = sorted(path for folder in folders for path in pathlib.Path(folder).rglob("*.*"))
    for count, path in enumerate(files):
        try:
            image = Image.open(path).convert("RGB")
        except Exception:
            continue
        yield image, 75
        if count % 8 == 0:
            yield image, random.randint(1, 100)
            size = [min(side, random.randint(1, 70)) for side in image.size]
            yield image.crop((0, 0, *size)), random.randint(1, 100)

    def noise(width, height, extreme):
        pixels = numpy.random.randint(0, 256, (height, width, 3), dtype=numpy.uint8)
        return Image.fromarray(numpy.where(pixels > 127, 255, 0).astype(numpy.uint8) if extreme else pixels)

    for width in range(1, 71):
        for height in [1, 2, 7, 8, 9, 15, 16, 17, 33, 70, random.randint(1, 70)]:
            yield noise(width, height, (width + height) % 3 == 0), random.choice([75, random.randint(1, 100)])
    for quality in range(1, 101):
        yield noise(37, 53, quality % 2 == 1), quality


def main():
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", HERE.parent.parent / "target"))
    seconds = pixels = 0
    with tempfile.TemporaryDirectory() as folder:
        for number, (image, quality) in enumerate(pictures(sys.argv[1:])):
            path = pathlib.Path(folder) / f"{number:06d}-{quality}"
            image.save(path.with_suffix(".png"), compress_level=1)
            # Without the comments that a file may have brought along.
            image = Image.fromarray(numpy.asarray(image))
            least = float("inf")
            for _ in range(5):
                file = io.BytesIO()
                begin = time.perf_counter()
                image.save(file, "JPEG", quality=quality)
                least = min(least, time.perf_counter() - begin)
            path.with_suffix(".jpg").write_bytes(file.getvalue())
            seconds += least
            pixels += image.width * image.height
        program = target / "release" / "examples" / "encoding"
        print(f"Pillow: {pixels / seconds / 1e6:.1f} megapixels/s")
        sys.exit(subprocess.run([program, folder]).returncode)


if __name__ == "__main__":
    main()
