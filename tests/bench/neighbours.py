"""Nearest neighbours beside faiss and torch, on the same features, in turn.

    cargo build --release -p smallfry-metrics --example search
    python tests/bench/neighbours.py [--train 100000] [--test 5000] [--width 1280] [-k 101] [--rounds 3] [--threads 2]

Prints the seconds of every round (of the clock, and of all processors, which a loaded machine disturbs less), medians,
ratios of medians (peer over smallfry: above 1 smallfry is faster), and the share of neighbours that are the peer's. The
peers' distances are in single precision, so that near ties may differ.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

import numpy

PROGRAM = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", "target")) / "release/examples/search"


def clusters(random, centres, rows, width):
    """Features in loose clusters, with a common mean as behind a ReLU."""
    labels = random.integers(0, len(centres), rows)
    noise = random.standard_normal((rows, width), dtype=numpy.float32)
    return numpy.maximum(centres[labels] + 0.7 * noise, 0)


def clocks():
    return time.perf_counter(), time.process_time()


def since(begin):
    return tuple(now - then for now, then in zip(clocks(), begin))


def own(train, test, width, k, threads, folder):
    out = folder / "own"
    environment = {**os.environ, "RAYON_NUM_THREADS": str(threads)}
    command = [PROGRAM, "neighbours", folder / "train", folder / "test", str(width), str(k), out]
    result = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    seconds, processors, memory = result.stdout.split()
    rows = numpy.fromfile(out, dtype=numpy.uint32).reshape(len(test), -1)
    return (float(seconds), float(processors)), rows, int(memory) - 4 * (train.size + test.size)


def with_faiss(train, test, k):
    import faiss

    begin = clocks()
    index = faiss.IndexFlatL2(train.shape[1])
    index.add(train)
    _, rows = index.search(test, k)
    return since(begin), rows


def with_torch(train, test, k, chunk=500):
    import torch

    train, test = torch.from_numpy(train), torch.from_numpy(test)
    begin = clocks()
    rows = [torch.cdist(part, train).topk(k, largest=False).indices for part in test.split(chunk)]
    return since(begin), torch.cat(rows).numpy()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", type=int, default=100_000)
    parser.add_argument("--test", type=int, default=5_000)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("-k", type=int, default=101)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peers", nargs="*", default=["faiss", "torch"])
    options = parser.parse_args()

    random = numpy.random.default_rng(0)
    centres = random.standard_normal((100, options.width), dtype=numpy.float32)
    train = clusters(random, centres, options.train, options.width)
    test = clusters(random, centres, options.test, options.width)
    if "faiss" in options.peers:
        import faiss

        faiss.omp_set_num_threads(options.threads)
    if "torch" in options.peers:
        import torch

        torch.set_num_threads(options.threads)
    peers = {"faiss": with_faiss, "torch": with_torch}
    times = {name: [] for name in ["smallfry", *options.peers]}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        train.tofile(folder / "train")
        test.tofile(folder / "test")
        for _ in range(options.rounds):
            width, k, threads = options.width, options.k, options.threads
            seconds, rows, memory = own(train, test, width, k, threads, folder)
            times["smallfry"].append(seconds)
            for name in options.peers:
                seconds, theirs = peers[name](train, test, k)
                times[name].append(seconds)
                same = numpy.mean([len(set(a) & set(b)) / k for a, b in zip(rows, theirs)])
                print(f"{name}: {100 * same:.4f} % of the neighbours are the same")
            print("  ".join(f"{name} {all[-1][0]:.2f} s, {all[-1][1]:.2f} s of processors" for name, all in times.items()), flush=True)
    medians = {name: [statistics.median(part) for part in zip(*all)] for name, all in times.items()}
    work = 2 * options.train * options.test * options.width
    clock, processors = medians["smallfry"]
    print(f"smallfry {clock:.2f} s, {processors:.2f} s of processors ({work / processors * 1e-9:.0f} GFLOP/s of one), "
          f"{memory / 2**20:.0f} MiB beyond the features")
    for name in options.peers:
        ratios = [theirs / ours for theirs, ours in zip(medians[name], medians["smallfry"])]
        print(f"{name} {medians[name][0]:.2f} s, ratio {ratios[0]:.2f}; of processors {ratios[1]:.2f}")


if __name__ == "__main__":
    main()
