"""How the cost of a training step grows: with the batch, with the area of the images, with the threads.

    cargo build --release -p smallfry-tests --example moco_step
    python tests/bench/scaling.py [--arch mobilenetv3_small] [--rounds 3]

Prints, for each setting, the time of an image (of the area of 224x224 pixels) and its ratio to the cheapest setting: a
cost that grows linearly has ratios near 1. The last line is the gain of two threads over one. The queue is short, so that
the step is the network's.
"""

import argparse

import models

BATCHES = [8, 16, 32, 64, 128, 256]
SIZES = [96, 128, 160, 192, 224, 256, 320]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--arch", action="append")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    ours = str(models.program("moco_step"))

    def best(arch: str, batch: int, size: int, threads: int) -> tuple[float, float]:
        """Milliseconds of an image, and the peak of memory in megabytes."""
        command = [ours, "--arch", arch, "--batch", str(batch), "--size", str(size), "--queue", "1024"]
        rows = [models.measure([*command, "--steps", str(options.steps)], threads) for _ in range(options.rounds)]
        return 1000 / max(row["images_per_second"] for row in rows), max(row["peak_mb"] for row in rows)

    def table(title: str, costs: list[tuple[str, float, float]]) -> None:
        print(f"{title:<28}{'ms':>8}{'ratio':>8}{'peak MB':>10}")
        cheapest = min(cost for _, cost, _ in costs)
        for name, cost, peak in costs:
            print(f"{name:<28}{cost:>8.2f}{cost / cheapest:>8.2f}{peak:>10.0f}", flush=True)

    for arch in options.arch or ["mobilenetv3_small"]:
        rows = [(f"batch {batch}", *best(arch, batch, 224, options.threads)) for batch in BATCHES]
        table(f"{arch}, an image", rows)
        rows = []
        for size in SIZES:
            cost, peak = best(arch, 32, size, options.threads)
            rows.append((f"{size}x{size}", cost * (224 / size) ** 2, peak))
        table(f"{arch}, 224x224 pixels", rows)
        one, two = best(arch, 32, 224, 1)[0], best(arch, 32, 224, 2)[0]
        print(f"{arch}, two threads: {one / two:.2f} times one", flush=True)


if __name__ == "__main__":
    main()
