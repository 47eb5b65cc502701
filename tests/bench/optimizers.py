"""Trajectories of PyTorch's optimisers, for tests/tests/optimizers.rs.

    python tests/bench/optimizers.py > tests/fixtures/optimizers/torch.json

Two tensors, `fc.weight` [4, 3] and `fc.bias` [4], take eight steps in single precision on gradients that both sides work
out from the same formula. LARS, which PyTorch lacks, is written out in its operations.
"""

import json
import math

import torch

STEPS = 8


def start():
    weight = torch.tensor([math.sin(0.9 * i + 0.2) for i in range(12)], dtype=torch.float64)
    bias = torch.tensor([0.3 * math.cos(1.3 * i) for i in range(4)], dtype=torch.float64)
    return weight.float().reshape(4, 3).requires_grad_(), bias.float().requires_grad_()


def gradients(step):
    weight = torch.tensor([0.4 * math.sin(1.7 * i + 0.6 * step) for i in range(12)], dtype=torch.float64)
    bias = torch.tensor([0.7 * math.cos(0.8 * i + 0.5 * step) for i in range(4)], dtype=torch.float64)
    return weight.float().reshape(4, 3), bias.float()


def run(make, clip=None, exempt=False):
    weight, bias = start()
    if exempt:
        groups = [{"params": [weight]}, {"params": [bias], "weight_decay": 0.0}]
    else:
        groups = [{"params": [weight, bias]}]
    optimizer = make(groups)
    states, norms = [], []
    for step in range(STEPS):
        weight.grad, bias.grad = gradients(step)
        if clip is not None:
            norms.append(float(torch.nn.utils.clip_grad_norm_([weight, bias], clip)))
        optimizer.step()
        if step == 3:
            for group in optimizer.param_groups:
                group["lr"] *= 0.5
        states.append(weight.detach().flatten().tolist() + bias.detach().tolist())
    return {"states": states, "norms": norms}


class LARS(torch.optim.Optimizer):
    def __init__(self, groups, lr, momentum, weight_decay, trust):
        super().__init__(groups, dict(lr=lr, momentum=momentum, weight_decay=weight_decay, trust=trust))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                update = p.grad
                if p.ndim > 1:
                    update = update + group["weight_decay"] * p
                    if p.norm() > 0 and update.norm() > 0:
                        update = update * (group["trust"] * p.norm() / update.norm())
                state = self.state[p]
                if "mu" not in state:
                    state["mu"] = torch.zeros_like(p)
                state["mu"].mul_(group["momentum"]).add_(update)
                p.sub_(group["lr"] * state["mu"])


def sgd(**arguments):
    return lambda groups: torch.optim.SGD(groups, foreach=False, **arguments)


def adamw(**arguments):
    return lambda groups: torch.optim.AdamW(groups, foreach=False, **arguments)


CASES = {
    "SGD(lr: 0.1, momentum: 0.9, weight_decay: 0.05, nesterov: true)": run(
        sgd(lr=0.1, momentum=0.9, weight_decay=0.05, nesterov=True)
    ),
    "SGD(lr: 0.1, momentum: 0.9, weight_decay: 0.05, no_decay: [Biases])": run(
        sgd(lr=0.1, momentum=0.9, weight_decay=0.05), exempt=True
    ),
    "AdamW(lr: 0.01, weight_decay: 0.1)": run(adamw(lr=0.01, weight_decay=0.1)),
    "AdamW(lr: 0.02, betas: (0.8, 0.95), epsilon: 1e-3, weight_decay: 0.1, no_decay: [Biases])": run(
        adamw(lr=0.02, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.1), exempt=True
    ),
    "LARS(lr: 2.0, momentum: 0.9, weight_decay: 0.01, trust: 0.02)": run(
        lambda groups: LARS(groups, lr=2.0, momentum=0.9, weight_decay=0.01, trust=0.02)
    ),
}
CLIPPED = run(sgd(lr=0.1, momentum=0.9, weight_decay=0.0), clip=1.2)

print(json.dumps({"torch": torch.__version__, "cases": CASES, "clipped": CLIPPED}, indent=1))
