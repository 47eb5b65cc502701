"""The peers' networks under this project's names, and what the drivers share."""

import json
import os
import pathlib
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent

TORCHVISION = {"mobilenetv3_small": "mobilenet_v3_small", "mobilenetv3_large": "mobilenet_v3_large"}


def backbone(arch: str):
    """The network of that name without its last layer, and the width of its features."""
    from torch import nn

    if arch == "vit_tiny":
        from vit_reference import VitTiny

        return VitTiny(), 192
    import torchvision

    network = getattr(torchvision.models, TORCHVISION.get(arch, arch))(weights=None)
    if hasattr(network, "fc"):
        width, network.fc = network.fc.in_features, nn.Identity()
    else:
        width, network.classifier[-1] = network.classifier[-1].in_features, nn.Identity()
    return network, width


def program(example: str) -> pathlib.Path:
    """The built example of that name."""
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    path = target / "release" / "examples" / example
    if not path.exists():
        sys.exit(f"{path} is missing; build it with: cargo build --release -p smallfry-tests --example {example}")
    return path


def executable() -> pathlib.Path:
    """The built program."""
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    path = target / "release" / "smallfry"
    if not path.exists():
        sys.exit(f"{path} is missing; build it with: cargo build --release -p smallfry-experiments")
    return path


def lines(command: list[str], threads: int) -> list[dict]:
    """Runs a program as a whole process; its lines of output are JSON."""
    environment = dict(os.environ, RAYON_NUM_THREADS=str(threads), OMP_NUM_THREADS=str(threads))
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def measure(command: list[str], threads: int) -> dict:
    """Runs a program as a whole process; its last line of output is JSON."""
    return lines(command, threads)[-1]


HEADING = f"{'network':<20}{'program':<16}{'images/s':>10}{'median':>10}{'peak MB':>10}{'speed x':>10}{'memory x':>10}"


def compare(arch: str, programs: list[list[str]], rounds: int, threads: int) -> None:
    """Runs the programs in turn, and prints each with its ratio to the fastest peer and to the first one's memory."""
    results: dict[str, list[dict]] = {}
    for _ in range(rounds):
        for command in programs:
            result = measure(command, threads)
            results.setdefault(result["program"], []).append(result)
    speed = {name: max(row["images_per_second"] for row in rows) for name, rows in results.items()}
    memory = {name: max(row["peak_mb"] for row in rows) for name, rows in results.items()}
    fastest = max(value for name, value in speed.items() if name != "smallfry")
    first = next(iter(memory.values()))
    for name, rows in results.items():
        median = statistics.median(row["median_images_per_second"] for row in rows)
        print(
            f"{arch:<20}{name:<16}{speed[name]:>10.1f}{median:>10.1f}{memory[name]:>10.0f}"
            f"{speed[name] / fastest:>10.2f}{memory[name] / first:>10.2f}",
            flush=True,
        )


def report(name: str, arch: str, batch: int, seconds: list[float]) -> None:
    """The line that a peer program ends with."""
    import resource

    print(
        json.dumps(
            {
                "program": name,
                "arch": arch,
                "images_per_second": batch / min(seconds),
                "median_images_per_second": batch / statistics.median(seconds),
                "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        )
    )
