"""Writing static views: a stage `Views` against a script with Pillow that does the same, image after image.

    cargo build --release -p smallfry-experiments
    python tests/bench/statics.py FOLDER_OF_CLASS_FOLDERS [--python PATH] [--threads 1 --threads 2] [--rounds 3]
        [--folder PATH]

Files go to memory (/dev/shm, or `--folder`): where a file system looks for free places after many files were removed, it
takes both programs more time than their work. The programs run in turns, and the least time of each counts. Of the peer only the work itself is timed, not the seconds that
Python takes to import torchvision; of smallfry the whole process. The peer runs on one thread, as the published script
does. Prints images/s by the clock with the ratio, and the ratio of processor time, which other load on the machine
disturbs less.
"""

import argparse
import os
import pathlib
import random
import resource
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent


def peer(source, target):
    """Every image of a folder of class folders, and two views of it in the colours of MoCo v2, as JPEG files."""
    from PIL import Image, ImageFilter
    from torchvision import transforms

    def blur(image):
        return image.filter(ImageFilter.GaussianBlur(radius=random.uniform(0.1, 2.0)))

    augment = transforms.Compose([
        transforms.RandomResizedCrop(224, scale=(0.2, 1.0)),
        transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
        transforms.RandomGrayscale(p=0.2),
        transforms.RandomApply([blur], p=0.5),
        transforms.RandomHorizontalFlip(),
    ])
    begin = time.perf_counter(), time.process_time()
    for folder in sorted(path for path in source.iterdir() if path.is_dir()):
        (target / folder.name).mkdir()
        for path in sorted(folder.iterdir())[:50]:
            image = Image.open(path).convert("RGB")
            stem = path.name.split(".")[0]
            for number, picture in enumerate([image, augment(image), augment(image)]):
                picture.save(target / folder.name / f"{stem}-{number}.jpeg")
    print(time.perf_counter() - begin[0], time.process_time() - begin[1])


def program():
    folder = os.environ.get("CARGO_TARGET_DIR", HERE.parent.parent / "target")
    return pathlib.Path(folder) / "release" / "smallfry"


def told(command):
    """The seconds that a program prints."""
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [float(word) for word in output.split()]


def timed(command, threads):
    """The seconds that a program takes by the clock and of processors."""
    environment = dict(os.environ, RAYON_NUM_THREADS=str(threads))
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, env=environment, capture_output=True)
    seconds, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    return [seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--mode", default="MoCo")
    parser.add_argument("--threads", type=int, action="append")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=pathlib.Path, help="where to write; in memory by default, if there is such a folder")
    parser.add_argument("--peer", type=pathlib.Path, help="be the peer, and write here")
    options = parser.parse_args()
    source = options.source.resolve()
    if options.peer:
        return peer(source, options.peer)

    folders = [path for path in source.iterdir() if path.is_dir()]
    images = sum(min(50, len(list(folder.iterdir()))) for folder in folders)
    memory = pathlib.Path("/dev/shm")
    place = options.folder or (memory if memory.is_dir() else None)
    best = {}

    def take(name, seconds):
        best[name] = [min(pair) for pair in zip(best.get(name, seconds), seconds)]

    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory(dir=place) as folder:
            target = pathlib.Path(folder)
            (target / "peer").mkdir()
            command = [options.python, __file__, str(source), "--peer", str(target / "peer")]
            take("Pillow", told(command))
            for threads in options.threads or [1, 2]:
                name = f"smallfry, {threads} threads"
                file = target / "views.ron"
                data = f'ImageFolder(path: "{source}")'
                stage = f"Views(data: {data}, mode: {options.mode})"
                file.write_text(f'Experiment(name: "views-{threads}", stages: [{stage}])')
                command = [str(program()), "run", str(file), "--output", str(target / "runs")]
                take(name, timed(command, threads))
    for name, (clock, processor) in best.items():
        ratio, less = (peer / own for peer, own in zip(best["Pillow"], (clock, processor)))
        print(f"{name:<20} {images / clock:7.1f} images/s  {ratio:5.2f}  processor {less:5.2f}")


if __name__ == "__main__":
    main()
