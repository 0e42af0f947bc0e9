"""Two ranks that save a sharded checkpoint: `python run_shards.py FOLDER RANK PORT`; a program, not a test."""

from __future__ import annotations

import os
import sys

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor


def whole() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        "rows": torch.randn(7, 3),
        "columns": torch.randn(2, 5, dtype=torch.float64),
        "replicated": torch.randn(4).to(torch.bfloat16),
        "plain": torch.arange(3),
        "smaller than the ranks": torch.ones(1, 2),
    }


def main(folder: str, rank: str, port: str) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANK": rank, "WORLD_SIZE": "2"}
    dist.init_process_group("gloo")
    mesh = init_device_mesh("cpu", (2,))
    tensors = whole()
    placements = {"rows": Shard(0), "columns": Shard(1), "replicated": Replicate(), "smaller than the ranks": Shard(0)}
    model = {
        name.replace(" ", "_"): distribute_tensor(tensor, mesh, [placements[name]]) if name in placements else tensor
        for name, tensor in tensors.items()
    }
    dcp.save({"app": {"model": model, "step": int(rank)}}, checkpoint_id=folder)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
