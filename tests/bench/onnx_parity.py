"""Holds what `smallfry convert` writes against PyTorch, torchvision, timm and ONNX Runtime.

    python tests/bench/onnx_parity.py SMALLFRY [NAME ...]

SMALLFRY is the program; without names all architectures below are tried. For each, a peer's network is made, its batch
norms are given running statistics by passing noise through it, and its state dict is saved by torch.save. Then:

* the model written by `--to onnx` must pass onnx.checker, and its own parity script;
* the peer must give the features in the parity file for the images there (where the peer is the same network);
* what `--to torchvision` or `--to timm` writes must load into the peer with strict=True and give them too.

Needs torch, torchvision, timm, onnx, onnxruntime. Prints a line for each; exits with 1 if one fails.
"""
import pathlib
import subprocess
import sys
import tempfile

import numpy
import onnx
import safetensors.numpy
import timm
import torch
import torchvision

TOLERANCE = 1e-3

# Our name: whose network is the same, under what name there; none where only the shapes are wanted.
RESNETS = [
    "resnet18", "resnet34", "resnet50", "resnet101", "resnet152",
    "resnext50_32x4d", "resnext101_32x8d", "wide_resnet50_2", "wide_resnet101_2",
]
PEERS = {name: ("torchvision", name) for name in RESNETS}
PEERS |= {"resnet18 ": ("timm", "resnet18"), "resnet50 ": ("timm", "resnet50")}
PEERS |= {"swav_resnet50": ("torchvision", "resnet50"), "simclr_resnet50": ("torchvision", "resnet50")}
PEERS |= {f"efficientnet_b{i}": ("timm", f"tf_efficientnet_b{i}") for i in range(4)}
PEERS |= {"efficientnet_lite0": ("timm", "tf_efficientnet_lite0")}
# Native sizes: timm pads for the image that it gets, the reference for this one.
SIDES = {"efficientnet_b0": 224, "efficientnet_b1": 240, "efficientnet_b2": 260, "efficientnet_b3": 300}


def peer(library, name):
    """A network without head whose running statistics fit its weights."""
    torch.manual_seed(1)
    if library == "timm":
        network = timm.create_model(name, pretrained=False, num_classes=0)
    else:
        network = torchvision.models.get_model(name, weights=None)
        network.fc = torch.nn.Identity()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.8, 1.2)
            torch.nn.init.uniform_(module.bias, -0.1, 0.1)
            module.momentum = None
    # Squares of colour under noise, as the parity files have: statistics of plain noise would let these explode.
    squares = torch.nn.functional.interpolate(4 * torch.rand(8, 3, 7, 7) - 2, size=112)
    with torch.no_grad():
        network.train()(squares + torch.rand(8, 3, 112, 112) - 0.5)
    return network.eval()


def relative(features, expected):
    return float(numpy.abs(features - expected).max() / numpy.abs(expected).max())


def check(program, folder, key):
    ours, (library, theirs) = key.strip(), PEERS[key]
    network = peer(library, theirs)
    weights = folder / "weights.pth"
    torch.save(network.state_dict(), weights)

    def convert(output, target):
        command = [program, "convert", weights, output, "--to", target, "--backbone", ours, "--overwrite"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr.strip())

    model = folder / "model.onnx"
    convert(model, "onnx")
    onnx.checker.check_model(str(model), full_check=True)
    parity = subprocess.run([sys.executable, folder / "model.parity.py"], capture_output=True, text=True)
    found = [parity.stdout.strip() or parity.stderr.strip()]
    good = parity.returncode == 0

    numbers = safetensors.numpy.load_file(folder / "model.parity.safetensors")
    images = torch.from_numpy(numbers["images"])
    if SIDES.get(ours, images.shape[2]) == images.shape[2]:
        with torch.no_grad():
            difference = relative(network(images).numpy(), numbers["features"])
        good &= difference <= TOLERANCE
        found.append(f"{library} {difference:.1e}")
    back = folder / "back.pth"
    convert(back, library)
    again = peer(library, theirs)
    again.load_state_dict(torch.load(back, weights_only=True), strict=True)
    for name, value in network.state_dict().items():
        good &= bool(torch.equal(value, again.state_dict()[name]))
    found.append("strict load")
    print(f"{'good' if good else 'BAD '} {ours:20} {'; '.join(found)}", flush=True)
    return good


def main():
    program, *names = sys.argv[1:]
    program = str(pathlib.Path(program).resolve())
    torch.set_num_threads(1)
    good = True
    for key in PEERS:
        if names and key.strip() not in names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                good &= check(program, pathlib.Path(folder), key)
            except Exception as error:  # one bad architecture must not hide the others
                good = False
                print(f"BAD  {key.strip():20} {error}", flush=True)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
