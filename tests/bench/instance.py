"""Instance discrimination beside torch, on the same features, in turn.

    cargo build --release -p smallfry-metrics --example search
    python tests/bench/instance.py [--rows 50000] [--width 1280] [--rounds 3] [--threads 2]

The peer does what the reference script does: products of 128 queries with all, and the ranks of their positives from a
top-k of six. Prints the seconds of every round (of the clock, and of all processors, which a loaded machine disturbs
less), medians, ratios (peer over smallfry), memory beyond the features, and hit@1 to hit@5 of both.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

import numpy
import torch

PROGRAM = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", "target")) / "release/examples/search"
TOP = 5


def clocks():
    return time.perf_counter(), time.process_time()


def since(begin):
    return tuple(now - then for now, then in zip(clocks(), begin))


def own(width, threads, folder):
    out = folder / "ranks"
    environment = {**os.environ, "RAYON_NUM_THREADS": str(threads)}
    command = [PROGRAM, "instances", folder / "queries", folder / "positives", str(width), out]
    result = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    seconds, processors, memory = result.stdout.split()
    ranks = numpy.fromfile(out, dtype=numpy.uint32)
    times = float(seconds), float(processors)
    return times, [100 * float((ranks < k).mean()) for k in range(1, TOP + 1)], int(memory)


def with_torch(queries, positives, batch=128):
    begin = clocks()
    queries = torch.nn.functional.normalize(queries)
    positives = torch.nn.functional.normalize(positives)
    hits = torch.zeros(TOP)
    for part, own in zip(queries.split(batch), positives.split(batch)):
        positive = (part * own).sum(1, keepdim=True)
        scores = torch.cat([positive, part @ queries.T], 1)
        places = scores.topk(TOP + 1).indices
        for k in range(1, TOP + 1):
            hits[k - 1] += (places[:, : k + 1] == 0).any(1).sum()
    return since(begin), [100 * float(hit) / len(queries) for hit in hits]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    random = numpy.random.default_rng(0)
    shape = (options.rows, options.width)
    queries = random.standard_normal(shape, dtype=numpy.float32)
    common = random.standard_normal((options.rows // 50 + 1, options.width), dtype=numpy.float32)
    queries += common[numpy.arange(options.rows) // 50]
    positives = queries + 0.9 * random.standard_normal(shape, dtype=numpy.float32)
    times = {"smallfry": [], "torch": []}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        queries.tofile(folder / "queries")
        positives.tofile(folder / "positives")
        for _ in range(options.rounds):
            seconds, hits, memory = own(options.width, options.threads, folder)
            times["smallfry"].append(seconds)
            seconds, theirs = with_torch(torch.from_numpy(queries), torch.from_numpy(positives))
            times["torch"].append(seconds)
            print("  ".join(f"{name} {all[-1][0]:.2f} s, {all[-1][1]:.2f} s of processors" for name, all in times.items()), flush=True)
    print("hits", [round(hit, 3) for hit in hits], [round(hit, 3) for hit in theirs])
    beyond = memory - 8 * queries.size
    medians = {name: [statistics.median(part) for part in zip(*all)] for name, all in times.items()}
    ratios = [theirs / ours for theirs, ours in zip(medians["torch"], medians["smallfry"])]
    print(f"smallfry {medians['smallfry'][0]:.2f} s, {beyond / 2**20:.0f} MiB beyond the features of both views")
    print(f"torch {medians['torch'][0]:.2f} s, ratio {ratios[0]:.2f}; of processors {ratios[1]:.2f}")


if __name__ == "__main__":
    main()
