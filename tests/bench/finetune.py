"""Lays finetuning over PyTorch's: the same network, images and steps, from a state after the first epoch.

    cargo build --release -p smallfry-experiments
    python tests/bench/finetune.py --python PATH_OF_A_PYTHON_WITH_TORCH [--arch resnet18] [--epochs 4]

smallfry trains a network on photographs twice, for one epoch and for several. An epoch is one batch of all images, resized
and cropped without chance, so that no order and no draw is in it. PyTorch takes over the state after the first epoch,
momentum included, and goes on by itself: in evaluation mode, as `main_transfer.py` does, or in training mode. What is
printed are the losses of both and the relative distance of the weights at the end.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import models

STAGE = """Probe(
    seed: 1,
    weights: Untrained,
    backbone: {arch},
    train: ImageFolder(path: "{photos}/val"),
    test: ImageFolder(path: "{photos}/val"),
    mode: Finetune,
    train_mode: {mode},
    normalize: {normalize},
    learning_rates: [{rate}],
    weight_decay: 0.0001,
    schedule: Constant,
    view: [Resize(size: 72), CenterCrop(size: 64)],
    size: 64,
    resize: 72,
    epochs: {epochs},
    batch: 64,
)
"""


def train(folder: pathlib.Path, name: str, program: pathlib.Path, fields: dict) -> pathlib.Path:
    """The run folder of a stage."""
    file = folder / f"{name}.ron"
    file.write_text(STAGE.format(photos=models.ROOT / "experiments/photos", **fields))
    done = subprocess.run([program, "run", file], cwd=folder, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    return folder / "runs" / name


def follow(first: str, whole: str, arch: str, mode: str, rate: float, epochs: int, normalize: bool) -> None:
    """Goes on in PyTorch from the state of `first`, and compares with `whole`."""
    import torch
    from PIL import Image
    from safetensors.torch import load_file
    from torchvision import transforms

    backbone, width = models.backbone(arch)
    state = load_file(f"{first}/checkpoints/probe/last.safetensors")
    layer = "fc.1" if normalize else "fc"
    own = {name.removeprefix("heads.0."): t for name, t in state.items() if name.startswith("heads.0.")}
    classes = own[f"{layer}.weight"].shape[0]
    head = torch.nn.Linear(width, classes)
    head.load_state_dict({last: own.pop(f"{layer}.{last}") for last in ("weight", "bias")})
    backbone.load_state_dict(own)
    named = {**dict(backbone.named_parameters()), **{f"{layer}.{n}": p for n, p in head.named_parameters()}}
    optimizer = torch.optim.SGD(named.values(), rate, momentum=0.9, weight_decay=1e-4)
    for name, parameter in named.items():
        buffer = state[f"optimizer.momentum_buffer.heads.0.{name}"]
        optimizer.state[parameter]["momentum_buffer"] = buffer.clone()
    prepare = transforms.Compose(
        [
            transforms.Resize(72),
            transforms.CenterCrop(64),
            transforms.ToTensor(),
            transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    root = models.ROOT / "experiments/photos/val"
    folders = sorted(path for path in root.iterdir() if path.is_dir())
    files = [(path, label) for label, folder in enumerate(folders) for path in sorted(folder.iterdir())]
    images = torch.stack([prepare(Image.open(path).convert("RGB")) for path, _ in files])
    labels = torch.tensor([label for _, label in files])
    backbone.train(mode == "Proper")
    losses = []
    for _ in range(epochs - 1):
        features = backbone(images)
        if normalize:
            features = torch.nn.functional.normalize(features)
        loss = torch.nn.functional.cross_entropy(head(features), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    lines = [json.loads(line) for line in open(f"{whole}/log.jsonl")]
    ours = [line[f"loss lr {rate:g}"] for line in lines if line["event"] == "probe"][1:]
    end = load_file(f"{whole}/checkpoints/probe/last.safetensors")
    distance, size = 0.0, 0.0
    for name, parameter in named.items():
        difference = parameter.detach() - end[f"heads.0.{name}"]
        moved = parameter.detach() - state[f"heads.0.{name}"]
        distance += float((difference.double() ** 2).sum())
        size += float((moved.double() ** 2).sum())
    print(f"{arch}, {mode}, normalize {normalize}")
    print("  smallfry ", "  ".join(f"{loss:.6f}" for loss in ours))
    print("  PyTorch  ", "  ".join(f"{loss:.6f}" for loss in losses))
    print(f"  weights differ by {(distance / size) ** 0.5:.1e} of the way they went", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--arch", default="resnet18")
    parser.add_argument("--rate", type=float, default=0.01)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--follow", nargs=4, metavar=("FIRST", "WHOLE", "MODE", "NORMALIZE"), help="only PyTorch")
    options = parser.parse_args()
    if options.follow:
        first, whole, mode, normalize = options.follow
        follow(first, whole, options.arch, mode, options.rate, options.epochs, normalize == "true")
        return
    program = models.executable()
    with tempfile.TemporaryDirectory() as folder:
        for mode in ("Reference", "Proper"):
            for normalize in ("false", "true"):
                fields = {"arch": options.arch, "mode": mode, "normalize": normalize, "rate": options.rate}
                first, whole = (
                    train(pathlib.Path(folder), f"{mode}-{normalize}-{epochs}", program, {**fields, "epochs": epochs})
                    for epochs in (1, options.epochs)
                )
                command = [options.python, __file__, "--arch", options.arch, "--rate", str(options.rate)]
                command += ["--epochs", str(options.epochs), "--follow", str(first), str(whole), mode, normalize]
                subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
