"""Features of a batch in PyTorch (eager, channels-last) or ONNX Runtime: the peer of the example `features`.

Prints one line of JSON: images per second (best and median batch) and peak resident memory.
"""

import argparse
import pathlib
import subprocess
import sys
import time

import models


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--arch", default="mobilenetv3_small")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=pathlib.Path, required=True, help="where the exported network is kept")
    parser.add_argument("--runtime", action="store_true", help="ONNX Runtime instead of PyTorch")
    parser.add_argument("--export", action="store_true", help="only export the network for ONNX Runtime")
    options = parser.parse_args()
    if options.export:
        export(options)
        return
    run = runtime(options) if options.runtime else eager(options)
    seconds = []
    for step in range(options.warmup + options.steps):
        start = time.perf_counter()
        run()
        if step >= options.warmup:
            seconds.append(time.perf_counter() - start)
    models.report("onnxruntime" if options.runtime else "torch-eager", options.arch, options.batch, seconds)


def eager(options):
    import torch

    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    network = models.backbone(options.arch)[0].eval().to(memory_format=torch.channels_last)
    images = torch.randn(options.batch, 3, options.size, options.size).contiguous(memory_format=torch.channels_last)

    def run():
        with torch.inference_mode():
            network(images)

    return run


def path(options) -> pathlib.Path:
    return options.folder / f"{options.arch}-{options.batch}-{options.size}.onnx"


def export(options) -> None:
    """Leaves the network for ONNX Runtime."""
    import torch

    network = models.backbone(options.arch)[0].eval()
    images = torch.randn(options.batch, 3, options.size, options.size)
    torch.onnx.export(network, (images,), str(path(options)), dynamo=True, verbose=False, external_data=False)


def runtime(options):
    import numpy
    import onnxruntime

    if not path(options).exists():
        # In a process of its own, so that its memory is not counted.
        subprocess.run([sys.executable, *sys.argv, "--export"], check=True, stdout=subprocess.DEVNULL)
    session = onnxruntime.SessionOptions()
    session.intra_op_num_threads = options.threads
    session = onnxruntime.InferenceSession(str(path(options)), session, providers=["CPUExecutionProvider"])
    shape = (options.batch, 3, options.size, options.size)
    images = numpy.random.default_rng(0).standard_normal(shape, dtype=numpy.float32)
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: images})


if __name__ == "__main__":
    main()
