"""Linear classifiers against PyTorch: a step of one learning rate and of eight.

    cargo build --release -p smallfry-tests --example probe
    python tests/bench/probe.py --python PATH_OF_A_PYTHON_WITH_TORCH [--arch mobilenetv3_small] [--rounds 3]

Features are there already (`kept`), or come from images of 224x224 pixels through the frozen network (`images`, smallfry
alone). PyTorch takes eight rates one after the other, as a program that knows one rate at a time has to. The two
programs take turns as whole processes; the least time of all rounds counts.
"""

import argparse
import json
import sys
import time

import models


def torch_steps(width: int, batch: int, classes: int, steps: int) -> list[float]:
    """The least milliseconds of a step of one classifier, and of eight in a row."""
    import torch

    features = torch.randn(batch, width)
    labels = torch.randint(classes, (batch,))
    loss = torch.nn.CrossEntropyLoss()
    learners = []
    for i in range(8):
        layer = torch.nn.Linear(width, classes)
        learners.append((layer, torch.optim.SGD(layer.parameters(), 0.01 * 2**i, momentum=0.9)))

    def step(count: int) -> float:
        begin = time.perf_counter()
        for layer, optimizer in learners[:count]:
            optimizer.zero_grad()
            loss(layer(features), labels).backward()
            optimizer.step()
        return 1e3 * (time.perf_counter() - begin)

    return [min(step(count) for _ in range(steps)) for count in (1, 8)]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--arch", default="mobilenetv3_small")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--torch", type=int, metavar="WIDTH", help="only PyTorch, on features of this width")
    options = parser.parse_args()
    if options.torch:
        import torch

        torch.set_num_threads(options.threads)
        for classes in (10, 100, 1000):
            kept = torch_steps(options.torch, options.batch, classes, 10 * options.steps)
            print(json.dumps({"classes": classes, "kept_ms": kept}))
        return

    ours = [str(models.program("probe")), "--arch", options.arch, "--batch", str(options.batch)]
    ours += ["--steps", str(options.steps)]
    best: dict[tuple[str, int], list[float]] = {}
    for _ in range(options.rounds):
        rows = models.lines(ours, options.threads)
        width = rows[0]["width"]
        theirs = [options.python, __file__, "--torch", str(width), "--batch", str(options.batch)]
        theirs += ["--steps", str(options.steps), "--threads", str(options.threads)]
        for kind, found in [("ours", rows), ("theirs", models.lines(theirs, options.threads))]:
            for row in found:
                for name in ("kept_ms", "images_ms"):
                    if name in row:
                        key = (f"{kind} {name}", row["classes"])
                        best[key] = [min(pair) for pair in zip(best.get(key, row[name]), row[name])]
    print(f"{options.arch}, features of {width}, batch {options.batch}, {options.threads} threads; milliseconds a step")
    print(f"{'classes':>8}{'kept 1':>10}{'kept 8':>10}{'ratio':>7}{'torch 1':>10}{'torch 8':>10}{'images 1':>10}{'images 8':>10}{'ratio':>7}")
    for classes in (10, 100, 1000):
        kept, images = best["ours kept_ms", classes], best["ours images_ms", classes]
        torch = best["theirs kept_ms", classes]
        print(
            f"{classes:>8}{kept[0]:>10.2f}{kept[1]:>10.2f}{kept[1] / kept[0]:>7.2f}{torch[0]:>10.2f}{torch[1]:>10.2f}"
            f"{images[0]:>10.1f}{images[1]:>10.1f}{images[1] / images[0]:>7.3f}"
        )


if __name__ == "__main__":
    main()
