"""A rank of a training whose blocks are sharded: ``python sharded_training.py RANK RANKS FOLDER``.

Rank 0 writes the trained weights of every kind of backbone to ``<kind>.pth`` in the folder.
"""

import sys
from pathlib import Path

import torch
from tiny_backbones import make, make_image
from torch import distributed
from torch.distributed.fsdp import fully_shard

KINDS = ('plain', 'pyramid', 'vim', 'local_vim', 'vmamba')
STEPS = 3


def train(model, images):
    """Plain SGD on the mean of the squared outputs."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(STEPS):
        optimizer.zero_grad()
        model(images)[0].square().mean().backward()
        optimizer.step()


def make_images(kind, ranks):
    """One image for each rank."""
    image = make_image(kind)
    return torch.cat([image * (1 + rank) for rank in range(ranks)])


def main(rank, ranks, folder):
    store = distributed.FileStore(str(folder / 'store'), ranks)
    distributed.init_process_group('gloo', store=store, rank=rank, world_size=ranks)
    mesh = distributed.device_mesh.init_device_mesh('cpu', (ranks,))
    for kind in KINDS:
        model = make(kind)
        for stage in model.stages:
            for block in stage:
                fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh)
        train(model, make_images(kind, ranks)[rank : rank + 1])
        weights = {name: p.full_tensor() for name, p in model.named_parameters()}
        if rank == 0:
            torch.save(weights, folder / f'{kind}.pth')
    distributed.destroy_process_group()


if __name__ == '__main__':
    torch.set_num_threads(1)
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
