"""Two augmented 224x224 views of every photograph of a folder, by torchvision and Pillow, on one core.

Prints the processor time for each image, in milliseconds, of every pass over the folder. The Rust example `loading`
runs this file as its peer; see there for the whole comparison.

    python loading.py FOLDER [PASSES]
"""

import pathlib
import random
import sys
import time

import torch
from PIL import Image, ImageFilter
from torchvision import transforms


class GaussianBlur:
    """Blurs by a standard deviation drawn uniformly from `sigma`, with Pillow, as MoCo v2 does."""

    def __init__(self, sigma):
        self.sigma = sigma

    def __call__(self, image):
        return image.filter(ImageFilter.GaussianBlur(radius=random.uniform(*self.sigma)))


def pre_training():
    """The paper's augmentation: colour strength 1, grey and blur with probability one half."""
    return transforms.Compose([
        transforms.RandomResizedCrop(224, scale=(0.2, 1.0)),
        transforms.RandomApply([transforms.ColorJitter(0.8, 0.8, 0.8, 0.4)], p=0.8),
        transforms.RandomGrayscale(p=0.5),
        transforms.RandomApply([GaussianBlur((0.1, 2.0))], p=0.5),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
    ])


def main():
    torch.set_num_threads(1)
    folder = pathlib.Path(sys.argv[1])
    passes = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in {".jpg", ".jpeg"})
    transform = pre_training()
    for _ in range(passes):
        start = time.process_time()
        for path in paths:
            with Image.open(path) as file:
                image = file.convert("RGB")
            transform(image), transform(image)
        print((time.process_time() - start) / len(paths) * 1e3, flush=True)


if __name__ == "__main__":
    main()
