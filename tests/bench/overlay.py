"""Lays the loss curve of MoCo in this program over that of PyTorch on the same batches.

    cargo run --release -p smallfry-tests --example overlay -- FOLDER [STEPS] [EARLIER]
    python tests/bench/overlay.py FOLDER [--double]

Both start from the same weights, momenta and queue and see the same pixels in the same order; the network, the head, the loss and
the optimiser are written here as the reference has them. Prints both losses and the largest difference so far at some
steps, and writes `overlay.csv` and `overlay.svg` into FOLDER. `--double` trains in double precision as well: how far
PyTorch's own single precision is from that says what difference rounding makes.
"""

import argparse
import copy
import json
import pathlib

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

SHOWN = (1, 10, 50, 100, 200)

# Kernel, expansion, output channels, squeeze-excite, hard-swish, stride (Howard et al. 2019, table 2).
SMALL = [
    (3, 1, 16, True, False, 2),
    (3, 4.5, 24, False, False, 2),
    (3, 3.67, 24, False, False, 1),
    (5, 4, 40, True, True, 2),
    (5, 6, 40, True, True, 1),
    (5, 6, 40, True, True, 1),
    (5, 3, 48, True, True, 1),
    (5, 3, 48, True, True, 1),
    (5, 6, 96, True, True, 2),
    (5, 6, 96, True, True, 1),
    (5, 6, 96, True, True, 1),
]


def rounded(width: float) -> int:
    result = max(8, int(width + 4) // 8 * 8)
    return result + 8 if result < 0.9 * width else result


class SqueezeExcite(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        inner = rounded(width // 4)
        self.fc = nn.Sequential(nn.Linear(width, inner), nn.ReLU(), nn.Linear(inner, width), nn.Hardsigmoid())

    def forward(self, x):
        return x * self.fc(x.mean((2, 3)))[:, :, None, None]


class Block(nn.Module):
    def __init__(self, width: int, kernel: int, hidden: int, output: int, excite: bool, swish: bool, stride: int) -> None:
        super().__init__()
        activation = nn.Hardswish() if swish else nn.ReLU()
        squeeze = SqueezeExcite(hidden) if excite else nn.Identity()
        depthwise = nn.Conv2d(hidden, hidden, kernel, stride, kernel // 2, groups=hidden, bias=False)
        project = [nn.Conv2d(hidden, output, 1, bias=False), nn.BatchNorm2d(output)]
        if hidden == width:
            layers = [depthwise, nn.BatchNorm2d(hidden), activation, squeeze, *project]
        else:
            expand = [nn.Conv2d(width, hidden, 1, bias=False), nn.BatchNorm2d(hidden), activation]
            layers = [*expand, depthwise, nn.BatchNorm2d(hidden), squeeze, activation, *project]
        self.conv = nn.Sequential(*layers)
        self.residual = stride == 1 and width == output

    def forward(self, x):
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV3Small(nn.Module):
    """The network with the wide head in place of `fc`, under the reference's names and without dropout."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        layers = [nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.Hardswish())]
        width = 16
        for kernel, expansion, output, excite, swish, stride in SMALL:
            layers.append(Block(width, kernel, rounded(width * expansion), output, excite, swish, stride))
            width = output
        self.features = nn.Sequential(*layers)
        self.conv = nn.Sequential(nn.Conv2d(width, 576, 1, bias=False), nn.BatchNorm2d(576), nn.Hardswish())
        self.classifier = nn.Sequential(nn.Linear(576, 1024), nn.Hardswish())
        self.fc = nn.Sequential(nn.Linear(1024, 2048), nn.ReLU(), nn.Linear(2048, dim))

    def forward(self, x):
        return self.fc(self.classifier(self.conv(self.features(x)).mean((2, 3))))


def train(folder: pathlib.Path, facts: dict, dtype: torch.dtype) -> list[float]:
    start = load_file(folder / "start.safetensors")

    def behind(prefix: str) -> dict[str, torch.Tensor]:
        return {name[len(prefix) :]: tensor for name, tensor in start.items() if name.startswith(prefix)}

    def encoder(name: str) -> nn.Module:
        network = MobileNetV3Small(start["queue"].shape[0])
        tensors = behind(name).items()
        network.load_state_dict({name: tensor.reshape(()) if "num_batches" in name else tensor for name, tensor in tensors})
        return network.to(dtype).train()

    query, key = encoder("encoder_q."), encoder("encoder_k.")
    for parameter in key.parameters():
        parameter.requires_grad = False
    queue, pointer = start["queue"].to(dtype), int(start["queue_ptr"])
    optimizer = torch.optim.SGD(
        query.parameters(), lr=facts["lr"], momentum=facts["momentum"], weight_decay=facts["weight_decay"]
    )
    momenta = behind("optimizer.momentum_buffer.encoder_q.")
    for name, parameter in query.named_parameters():
        optimizer.state[parameter]["momentum_buffer"] = momenta[name].to(dtype)
    batch, size, momentum = facts["batch"], facts["size"], facts["key_momentum"]
    shape = (len(facts["losses"]), 2, batch, size, size, 3)
    views = np.memmap(folder / "views.f32", dtype="<f4", mode="r", shape=shape)
    losses = []
    for both in views:
        first, second = torch.from_numpy(np.array(both)).to(dtype).permute(0, 1, 4, 2, 3).contiguous()
        q = F.normalize(query(first), dim=1)
        with torch.no_grad():
            for k, p in zip(key.parameters(), query.parameters()):
                k.mul_(momentum).add_(p, alpha=1 - momentum)
            k = F.normalize(key(second), dim=1)
        logits = torch.cat([(q * k).sum(1, keepdim=True), q @ queue], dim=1) / facts["temperature"]
        loss = F.cross_entropy(logits, torch.zeros(batch, dtype=torch.long))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        queue[:, pointer : pointer + batch] = k.T
        pointer = (pointer + batch) % queue.shape[1]
        losses.append(loss.item())
    return losses


def svg(curves: dict[str, list[float]]) -> str:
    """The curves over each other."""
    width, height, margin = 720, 360, 45
    low = min(min(curve) for curve in curves.values())
    high = max(max(curve) for curve in curves.values())
    steps = max(len(curve) for curve in curves.values())
    x = lambda step: margin + (width - 2 * margin) * step / max(steps - 1, 1)
    y = lambda loss: height - margin - (height - 2 * margin) * (loss - low) / max(high - low, 1e-12)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">']
    for value in np.linspace(low, high, 5):
        parts.append(f'<line x1="{margin}" x2="{width - margin}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{margin - 5}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.2f}</text>')
    styles = ["#2a6fbb", "#d1495b", "#3a7d44"]
    for (name, curve), color, i in zip(curves.items(), styles, range(3)):
        points = " ".join(f"{x(step):.1f},{y(loss):.1f}" for step, loss in enumerate(curve))
        dash = "" if i == 0 else ' stroke-dasharray="4 3"'
        parts.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="1.5"{dash}/>')
        parts.append(f'<text x="{width - margin}" y="{margin + 16 * i}" text-anchor="end" fill="{color}">{name}</text>')
    parts.append(f'<text x="{width / 2}" y="{height - 10}" text-anchor="middle">step, 1 to {steps}</text></svg>')
    return "\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--double", action="store_true")
    options = parser.parse_args()
    facts = json.loads((options.folder / "losses.json").read_text())
    curves = {"smallfry": facts["losses"], "PyTorch": train(options.folder, facts, torch.float32)}
    if options.double:
        curves["PyTorch, double"] = train(options.folder, facts, torch.float64)
    names = list(curves)
    (options.folder / "overlay.svg").write_text(svg(curves))
    rows = [",".join(["step", *names])] + [
        ",".join([str(step + 1), *(f"{loss:.9g}" for loss in losses)]) for step, losses in enumerate(zip(*curves.values()))
    ]
    (options.folder / "overlay.csv").write_text("\n".join(rows) + "\n")
    pairs = [(names[0], names[1])] + [(name, names[2]) for name in names[:2] if options.double]
    for one, other in pairs:
        gaps = np.abs(np.array(curves[one]) - np.array(curves[other]))
        print(f"{one} and {other}")
        print(f"{'step':>6}{one:>20}{other:>20}{'difference':>14}{'largest so far':>16}")
        for step in [step for step in SHOWN if step <= len(gaps)]:
            print(
                f"{step:>6}{curves[one][step - 1]:>20.6f}{curves[other][step - 1]:>20.6f}"
                f"{gaps[step - 1]:>14.2e}{gaps[:step].max():>16.2e}"
            )


if __name__ == "__main__":
    main()
