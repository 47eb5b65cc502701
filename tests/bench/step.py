"""Training step against PyTorch: runs both in turn and prints ratios.

    cargo build --release -p smallfry-tests --example moco_step
    python tests/bench/step.py --python PATH_OF_A_PYTHON_WITH_TORCH [--arch mobilenetv3_small] [--rounds 3] [--compile]

Each round runs PyTorch (channels-last; eager, and compiled where asked) and smallfry as whole processes, one after the
other, so that all see the same machine. The best step of all rounds counts for speed, the largest peak for memory; the
ratio of speed is to the faster of PyTorch's two ways, that of memory to the eager one.
"""

import argparse
import sys

import models


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

    ours = models.program("moco_step")
    print(models.HEADING)
    for arch in options.arch or ["mobilenetv3_small"]:
        shape = ["--arch", arch, "--batch", str(options.batch), "--size", str(options.size)]
        shape += ["--steps", str(options.steps), "--threads", str(options.threads)]
        torch = [options.python, str(models.HERE / "torch_step.py"), *shape]
        programs = [torch, [*torch, "--compile"]] if options.compile else [torch]
        models.compare(arch, [*programs, [str(ours), *shape]], options.rounds, options.threads)


if __name__ == "__main__":
    main()
