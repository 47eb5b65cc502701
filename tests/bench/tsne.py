"""t-SNE against a NumPy version of the reference's algorithm (all pairs) or openTSNE (many points), in turn on the same data.

    cargo build --release -p smallfry-tests --example tsne
    python tests/bench/tsne.py [--points 3000] [--steps 30] [--rounds 2]
    python tests/bench/tsne.py --points 60000 --images FOLDER_OF_IDX_FILES --opentsne

The Python needs numpy, with --opentsne openTSNE too. NumPy takes minutes for the thousand iterations of the paper, so both
sides take --steps of them, and what a thousand would take is worked out; --whole takes all. Points are clusters with noise,
or with --images the pixels of Fashion-MNIST. With --opentsne both take 750 iterations, and the share of each point's ten nearest
neighbours on the map that are among its ten nearest in the data tells how good the maps are. Times are by the clock; the
seconds of processors, of all threads together, tell more on a machine that is busy otherwise.
"""

import argparse
import gzip
import json
import os
import pathlib
import resource
import subprocess
import tempfile
import time

import models
import numpy as np

ITERATIONS = 1000
COMPONENTS = 50


def processors() -> float:
    """Seconds of processors that this process and those it waited for have taken."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def features(options: argparse.Namespace) -> np.ndarray:
    if options.images:
        path = pathlib.Path(options.images) / "train-images-idx3-ubyte"
        opener = open if path.exists() else gzip.open
        path = path if path.exists() else path.with_name(path.name + ".gz")
        with opener(path, "rb") as file:
            pixels = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 784)
        return np.ascontiguousarray(pixels[: options.points].astype(np.float32) / 255)
    random = np.random.default_rng(0)
    centres = random.normal(size=(20, options.width))
    rows = centres[np.arange(options.points) % 20] + 0.7 * random.normal(size=(options.points, options.width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def principal(rows: np.ndarray) -> np.ndarray:
    rows = rows.astype(np.float64) - rows.mean(axis=0)
    _, vectors = np.linalg.eigh(rows.T @ rows)
    return rows @ vectors[:, ::-1][:, :COMPONENTS]


def distances(rows: np.ndarray) -> np.ndarray:
    squares = (rows**2).sum(axis=1)
    return np.maximum(squares[:, None] + squares - 2 * rows @ rows.T, 0)


def affinities(rows: np.ndarray, perplexity: float) -> np.ndarray:
    apart = distances(rows)
    count = len(rows)
    wanted = np.log(perplexity)
    probabilities = np.zeros((count, count))
    for i in range(count):
        others = np.delete(apart[i], i)
        beta, low, high = 1.0, None, None
        for attempt in range(51):
            near = np.exp(-beta * others)
            total = near.sum()
            surplus = np.log(total) + beta * (others * near).sum() / total - wanted
            if abs(surplus) <= 1e-5 or attempt == 50:
                break
            if surplus > 0:
                low = beta
                beta = 2 * beta if high is None else (beta + high) / 2
            else:
                high = beta
                beta = beta / 2 if low is None else (beta + low) / 2
        probabilities[i, np.arange(count) != i] = near / total
    probabilities += probabilities.T
    return probabilities / probabilities.sum()


def numpy_map(rows: np.ndarray, steps: int) -> tuple[float, float, float]:
    """Seconds of setup, seconds of the steps, divergence."""
    begin = time.perf_counter()
    wanted = np.maximum(4 * affinities(principal(rows), 30.0), 1e-21)
    count = len(rows)
    places = np.random.default_rng(1).normal(size=(count, 2))
    update, gains = np.zeros_like(places), np.ones_like(places)
    ready = time.perf_counter()
    for step in range(steps):
        near = 1 / (1 + distances(places))
        np.fill_diagonal(near, 0)
        seen = np.maximum(near / near.sum(), 1e-12)
        weights = (wanted - seen) * near
        gradient = weights.sum(axis=1)[:, None] * places - weights @ places
        same = (gradient > 0) == (update > 0)
        gains = np.maximum(np.where(same, gains * 0.8, gains + 0.2), 0.01)
        update = (0.5 if step < 20 else 0.8) * update - 500 * gains * gradient
        places += update
        places -= places.mean(axis=0)
        if step == 100:
            wanted /= 4
    done = time.perf_counter()
    final = wanted / wanted.sum()
    near = 1 / (1 + distances(places))
    np.fill_diagonal(near, 0)
    divergence = (final * np.log(final / np.maximum(near / near.sum(), 1e-12))).sum()
    return ready - begin, done - ready, divergence


def own_map(rows: np.ndarray, arguments: list[str], threads: int) -> tuple[dict, np.ndarray]:
    with tempfile.TemporaryDirectory() as folder:
        source, target = pathlib.Path(folder, "features"), pathlib.Path(folder, "map")
        rows.tofile(source)
        files = ["--features", str(source), "--map", str(target), "--width", str(rows.shape[1])]
        command = [str(models.program("tsne")), *files, *arguments]
        environment = dict(os.environ, RAYON_NUM_THREADS=str(threads))
        output = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
        return json.loads(output), np.fromfile(target).reshape(-1, 2)


def against_numpy(rows: np.ndarray, options: argparse.Namespace) -> None:
    steps = ITERATIONS if options.whole else options.steps
    for _ in range(options.rounds):
        begin = processors()
        setup, stepping, divergence = numpy_map(rows, steps)
        middle = processors()
        own, _ = own_map(rows, ["--algorithm", "exact", "--iterations", str(steps)], options.threads)
        shares = (middle - begin) / (processors() - middle)
        whole = setup + stepping * ITERATIONS / steps
        own_whole = own["setup"] + own["steps"] * ITERATIONS / steps
        print(
            f"{len(rows)} points, {steps} steps: NumPy {setup:.2f} + {stepping:.2f} s (divergence {divergence:.3f}), "
            f"smallfry {own['setup']:.2f} + {own['steps']:.2f} s ({own['divergence']:.3f}); "
            f"{ITERATIONS} steps: {whole:.1f} s against {own_whole:.1f} s, {whole / own_whole:.1f} times; "
            f"processors {middle - begin:.1f} s against {processors() - middle:.1f} s, {shares:.1f} times"
        )


def kept(rows: np.ndarray, places: np.ndarray) -> float:
    """The share of neighbours that a map keeps, of 500 points."""
    chosen = np.random.default_rng(2).choice(len(rows), min(500, len(rows)), replace=False)
    shares = []
    for i in chosen:
        near = [np.argsort(((space - space[i]) ** 2).sum(axis=1))[1:11] for space in (rows, places)]
        shares.append(len(set(near[0]) & set(near[1])) / 10)
    return float(np.mean(shares))


def against_opentsne(rows: np.ndarray, options: argparse.Namespace) -> None:
    import openTSNE

    for _ in range(options.rounds):
        first = processors()
        begin = time.perf_counter()
        reduced = principal(rows)
        peer = openTSNE.TSNE(n_jobs=options.threads, random_state=0).fit(reduced)
        peer_time = time.perf_counter() - begin
        middle = processors()
        begin = time.perf_counter()
        arguments = ["--algorithm", "tree", "--initial", "principal", "--iterations", "750"]
        own, places = own_map(rows, arguments, options.threads)
        own_time = time.perf_counter() - begin
        last = processors()
        print(
            f"{len(rows)} points: openTSNE {peer_time:.1f} s (divergence {peer.kl_divergence:.3f}, "
            f"keeps {kept(reduced, np.asarray(peer)):.3f}), smallfry {own_time:.1f} s "
            f"({own['setup']:.1f} + {own['steps']:.1f}; {own['divergence']:.3f}, keeps {kept(reduced, places):.3f}); "
            f"{peer_time / own_time:.2f} times; processors {middle - first:.1f} s against {last - middle:.1f} s, "
            f"{(middle - first) / (last - middle):.2f} times"
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--points", type=int, default=3000)
    parser.add_argument("--width", type=int, default=576)
    parser.add_argument("--images")
    parser.add_argument("--opentsne", action="store_true")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    rows = features(options)
    (against_opentsne if options.opentsne else against_numpy)(rows, options)


if __name__ == "__main__":
    main()
