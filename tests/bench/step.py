"""Training step against PyTorch: runs both in turn and prints ratios.

    cargo build --release -p smallfry-tests --example moco_step
    python tests/bench/step.py --python PATH_OF_A_PYTHON_WITH_TORCH [--arch mobilenetv3_small] [--rounds 3]

Each round runs PyTorch (eager, channels-last) and smallfry as whole processes, one after the other, so that both see the
same machine. The best step of all rounds counts for speed, the largest peak for memory.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def measure(command: list[str], threads: int) -> dict:
    environment = dict(os.environ, RAYON_NUM_THREADS=str(threads), OMP_NUM_THREADS=str(threads))
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--arch", action="append")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true", help="also run torch.compile")
    options = parser.parse_args()

    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    ours = target / "release" / "examples" / "moco_step"
    if not ours.exists():
        sys.exit(f"{ours} is missing; build it with: cargo build --release -p smallfry-tests --example moco_step")
    print(f"{'network':<20}{'program':<16}{'images/s':>10}{'median':>10}{'peak MB':>10}{'speed x':>10}{'memory x':>10}")
    for arch in options.arch or ["mobilenetv3_small"]:
        shape = ["--arch", arch, "--batch", str(options.batch), "--size", str(options.size)]
        shape += ["--steps", str(options.steps), "--threads", str(options.threads)]
        torch = [options.python, str(HERE / "torch_step.py"), *shape]
        programs = [torch, [*torch, "--compile"]] if options.compile else [torch]
        programs.append([str(ours), *shape])
        results: dict[str, list[dict]] = {}
        for _ in range(options.rounds):
            for command in programs:
                result = measure(command, options.threads)
                results.setdefault(result["program"], []).append(result)
        speed = {name: max(r["images_per_second"] for r in rows) for name, rows in results.items()}
        memory = {name: max(r["peak_mb"] for r in rows) for name, rows in results.items()}
        peer_speed = max(value for name, value in speed.items() if name != "smallfry")
        for name, rows in results.items():
            median = statistics.median(r["median_images_per_second"] for r in rows)
            print(
                f"{arch:<20}{name:<16}{speed[name]:>10.1f}{median:>10.1f}{memory[name]:>10.0f}"
                f"{speed[name] / peer_speed:>10.2f}{memory[name] / memory['torch-eager']:>10.2f}"
            )


if __name__ == "__main__":
    main()
