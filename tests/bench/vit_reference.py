"""`vit_tiny` in plain PyTorch: the peer's network, under the reference's parameter names.

Twelve pre-norm layers on 196 patches and a class token; six heads of 64 on a width of 192; the patch embedding is frozen.
Attention is `scaled_dot_product_attention`, the fastest that PyTorch has for it.
"""

import torch
from torch import nn
from torch.nn import functional as F


class Attention(nn.Module):
    def __init__(self, width: int, heads: int, head_width: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(width, 3 * heads * head_width, bias=False)
        self.to_out = nn.Sequential(nn.Linear(heads * head_width, width), nn.Dropout(dropout))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, _ = x.shape
        q, k, v = self.to_qkv(x).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        return self.to_out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, tokens, -1))


class Hidden(nn.Module):
    def __init__(self, width: int, hidden: int, dropout: float):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, width), nn.Dropout(dropout)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)


class PreNorm(nn.Module):
    def __init__(self, width: int, fn: nn.Module):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fn = fn

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.fn(self.norm(x))


class Transformer(nn.Module):
    def __init__(self, width: int, depth: int, heads: int, head_width: int, hidden: int, dropout: float):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [
                    PreNorm(width, Attention(width, heads, head_width, dropout)),
                    PreNorm(width, Hidden(width, hidden, dropout)),
                ]
            )
            for _ in range(depth)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for attention, hidden in self.layers:
            x = hidden(attention(x))
        return x


class VitTiny(nn.Module):
    """Images `[batch, 3, 224, 224]` to features `[batch, 192]`."""

    def __init__(self, dropout: float = 0.1, width: int = 192, patch: int = 16, side: int = 224):
        super().__init__()
        self.patch = patch
        self.pos_embedding = nn.Parameter(torch.randn(1, (side // patch) ** 2 + 1, width))
        self.cls_token = nn.Parameter(torch.randn(1, 1, width))
        self.to_patch_embedding = nn.Sequential(nn.Identity(), nn.Linear(3 * patch * patch, width))
        for parameter in self.to_patch_embedding.parameters():
            parameter.requires_grad = False
        self.dropout = nn.Dropout(dropout)
        self.transformer = Transformer(width, 12, 6, 64, 768, dropout)
        self.mlp_head = nn.Sequential(nn.LayerNorm(width))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        batch, channels, height, width = images.shape
        p = self.patch
        patches = images.reshape(batch, channels, height // p, p, width // p, p).permute(0, 2, 4, 3, 5, 1)
        x = self.to_patch_embedding(patches.reshape(batch, -1, p * p * channels))
        x = torch.cat([self.cls_token.expand(batch, -1, -1), x], dim=1)
        x = self.transformer(self.dropout(x + self.pos_embedding))
        return self.mlp_head(x[:, 0])
