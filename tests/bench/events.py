"""Reads a run's event files with the real tensorboard package and compares every point with the run's logs.

    python tests/bench/events.py runs/quickstart

Wants `pip install tensorboard`. Prints the points compared and fails at the first that is missing, doubled, out of
order or of another value.
"""

import json
import struct
import sys
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def single(value):
    """The value in single precision, as event files hold it."""
    return struct.unpack("<f", struct.pack("<f", value))[0]


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def expected(folder, stage):
    """The points of a stage by tag, in order, as its logs tell them."""
    points, step, steps_at = {}, 0, {}

    def add(tag, at, value):
        if isinstance(value, dict):
            for name, inner in value.items():
                add(f"{tag}/{name}", at, inner)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            points.setdefault(tag, []).append((at, single(value)))

    for line in lines(folder / "log.jsonl"):
        if line["stage"] != stage:
            continue
        event, step = line["event"], line.get("step", step)
        if event == "epoch":
            steps_at[line["epoch"]] = step
        group = {"step": "train", "start": "train"}.get(event, event)
        for name, value in line.items():
            figure = name not in ("event", "stage", "epoch", "step")
            if figure and (event != "start" or name == "chance_loss"):
                add(f"{group}/{name}", step, value)
    for line in lines(folder / "timings.jsonl"):
        if line["stage"] == stage and line["epoch"] in steps_at:
            for name, value in line.items():
                if name not in ("stage", "epoch"):
                    add(f"speed/{name}", steps_at[line["epoch"]], value)
    return points


def found(folder):
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    accumulator.Reload()
    points = {}
    for tag in accumulator.Tags()["scalars"]:
        points[tag] = [(event.step, event.value) for event in accumulator.Scalars(tag)]
    return points


def main():
    run = Path(sys.argv[1])
    total = 0
    for folder in sorted((run / "events").iterdir()):
        wanted, got = expected(run, folder.name), found(folder)
        assert wanted, f"the log has no line of stage {folder.name}"
        assert set(wanted) == set(got), f"other curves: {set(wanted) ^ set(got)}"
        for tag, points in wanted.items():
            assert points == got[tag], f"{tag}: {points[:3]} … but {got[tag][:3]} …"
            total += len(points)
        print(f"{folder.name}: {len(wanted)} curves, {sum(map(len, wanted.values()))} points")
    print(f"{total} points equal")


main()
