"""Keeps inputs of a fuzz target for the tests on stable: python3 fuzz/keep.py TARGET FILE...

An input is appended to `tests/fixtures/weights/fuzzed/TARGET.bin` after its length, unless it is there already.
"""

import pathlib
import struct
import sys

target, *files = sys.argv[1:]
folder = pathlib.Path(__file__).parent.parent / "tests/fixtures/weights/fuzzed"
archive = folder / f"{target}.bin"
kept = archive.read_bytes()
inputs, at = set(), 0
while at < len(kept):
    (length,) = struct.unpack_from("<I", kept, at)
    inputs.add(kept[at + 4 : at + 4 + length])
    at += 4 + length
with archive.open("ab") as out:
    for file in files:
        content = pathlib.Path(file).read_bytes()
        if content not in inputs:
            inputs.add(content)
            out.write(struct.pack("<I", len(content)) + content)
