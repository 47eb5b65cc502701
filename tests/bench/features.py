"""Features of a network (inference) against PyTorch and ONNX Runtime: runs all in turn and prints ratios.

    cargo build --release -p smallfry-tests --example features
    python tests/bench/features.py --python PATH_OF_A_PYTHON [--arch mobilenetv3_small] [--rounds 3]

The Python needs torch, torchvision, onnx, onnxscript and onnxruntime. PyTorch runs eagerly with channels-last tensors; ONNX
Runtime runs the same network, exported by PyTorch. The ratio of speed is to the faster of the two.
"""

import argparse
import sys
import tempfile

import models


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--arch", action="append")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()

    ours = models.program("features")
    print(models.HEADING)
    for arch in options.arch or ["mobilenetv3_small"]:
        shape = ["--arch", arch, "--batch", str(options.batch), "--size", str(options.size)]
        shape += ["--steps", str(options.steps), "--threads", str(options.threads)]
        with tempfile.TemporaryDirectory() as folder:
            peer = [options.python, str(models.HERE / "peer_features.py"), *shape, "--folder", folder]
            programs = [peer, [*peer, "--runtime"], [str(ours), *shape]]
            models.compare(arch, programs, options.rounds, options.threads)


if __name__ == "__main__":
    main()
