"""One training by one process and by several: images/s, and that they come to the same bytes.

    cargo build --release --features mpi -p smallfry-experiments
    python tests/bench/processes.py FOLDER_OF_CLASS_FOLDERS [--arch mobilenetv3_small] [--side 224] [--batch 64]
        [--processes 2] [--threads 1] [--rounds 3] [--epochs 3]

A round is a run by one process with as many threads as all of the others have, one by one process with `--threads`, and one by
`--processes` with `--threads` each, in turn. The best epoch of each counts; the first of a run, which plans, does not. Wants Open
MPI's mpirun.
"""

import argparse
import json
import os
import pathlib
import subprocess
import tempfile

HERE = pathlib.Path(__file__).resolve().parent


def program():
    folder = os.environ.get("CARGO_TARGET_DIR", HERE.parent.parent / "target")
    return pathlib.Path(folder) / "release" / "smallfry"


def experiment(options):
    view = f"[RandomResizedCrop(size: {options.side}), HorizontalFlip(p: 0.5)]"
    objective = f"MoCo(queue: {options.queue}, groups: {options.processes})"
    stage = (
        f'Pretrain(data: ImageFolder(path: "{options.source.resolve()}"), backbone: {options.arch}, objective: {objective}, '
        f"view: {view}, optimizer: SGD(lr: 0.01), schedule: Cosine, epochs: {options.epochs}, batch: {options.batch})"
    )
    return f'Experiment(name: "run", stages: [{stage}])'


def run(folder, processes, threads):
    command = [str(program()), "run", "experiment.ron", "--overwrite", "--threads", str(threads)]
    if processes > 1:
        # A core a thread where there are as many; else all share them.
        binding = ["--bind-to", "none", "--oversubscribe"]
        command = ["mpirun", "-n", str(processes), *binding, *command]
    environment = dict(
        os.environ,
        OMPI_ALLOW_RUN_AS_ROOT="1",
        OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
        OMPI_MCA_mpi_yield_when_idle="1",
    )
    subprocess.run(command, check=True, cwd=folder, env=environment, capture_output=True)
    root = folder / "runs" / "run"
    lines = [json.loads(line) for line in (root / "timings.jsonl").read_text().splitlines()]
    best = max(line["images_per_second"] for line in lines[1:])
    return best, (root / "log.jsonl").read_bytes()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("--arch", default="mobilenetv3_small")
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--queue", type=int, default=1024)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    ways = {
        f"1 process, {options.threads} threads": (1, options.threads),
        f"1 process, {options.threads * options.processes} threads": (1, options.threads * options.processes),
        f"{options.processes} processes, {options.threads} threads each": (options.processes, options.threads),
    }
    best, logs = {}, set()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "experiment.ron").write_text(experiment(options))
        for _ in range(options.rounds):
            for name, way in ways.items():
                rate, log = run(folder, *way)
                best[name] = max(rate, best.get(name, 0))
                logs.add(log)
    first = next(iter(best.values()))
    for name, rate in best.items():
        print(f"{name:<32} {rate:7.1f} images/s  {rate / first:5.2f}")
    print("the same bytes" if len(logs) == 1 else "DIFFERENT BYTES")


if __name__ == "__main__":
    main()
