"""A full MoCo step in PyTorch: the peer of `moco_step`.

Channels-last, eager, two threads by default. Prints one line of JSON: images per second (best and median step) and peak
resident memory. Networks come from torchvision (`vit_tiny` from `vit_reference.py`); the head is the reference's `wide` one.
"""

import argparse
import copy
import time

import torch
from torch import nn
from torch.nn import functional as F

import models


def encoder(arch: str, dim: int) -> nn.Module:
    body, width = models.backbone(arch)
    head = nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, dim))
    return nn.Sequential(body, head)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--arch", default="mobilenetv3_small")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--queue", type=int, default=65536)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    dim, momentum, temperature = 128, 0.999, 0.1
    query = encoder(options.arch, dim).train().to(memory_format=torch.channels_last)
    key = copy.deepcopy(query)
    for parameter in key.parameters():
        parameter.requires_grad = False
    queue = F.normalize(torch.randn(dim, options.queue), dim=0)
    pointer = 0
    optimizer = torch.optim.SGD(query.parameters(), lr=0.06, momentum=0.9, weight_decay=1e-4)
    run_query, run_key = (torch.compile(query), torch.compile(key)) if options.compile else (query, key)
    views = [
        torch.randn(options.batch, 3, options.size, options.size).contiguous(memory_format=torch.channels_last)
        for _ in range(2)
    ]
    labels = torch.zeros(options.batch, dtype=torch.long)

    seconds = []
    for step in range(options.warmup + options.steps):
        start = time.perf_counter()
        q = F.normalize(run_query(views[0]), dim=1)
        with torch.no_grad():
            for parameter_k, parameter_q in zip(key.parameters(), query.parameters()):
                parameter_k.data = parameter_k.data * momentum + parameter_q.data * (1.0 - momentum)
            k = F.normalize(run_key(views[1]), dim=1)
        positive = torch.einsum("nc,nc->n", q, k).unsqueeze(-1)
        negative = torch.einsum("nc,ck->nk", q, queue.clone().detach())
        logits = torch.cat([positive, negative], dim=1) / temperature
        loss = F.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        queue[:, pointer : pointer + options.batch] = k.T
        pointer = (pointer + options.batch) % options.queue
        if step >= options.warmup:
            seconds.append(time.perf_counter() - start)
    models.report("torch-compile" if options.compile else "torch-eager", options.arch, options.batch, seconds)


if __name__ == "__main__":
    main()
