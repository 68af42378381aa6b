import pytest
from mmengine.config import Config

from mmv2m.engine.errors import UserError
from mmv2m.reproduce.estimate import estimate_training
from mmv2m.reproduce.placement import Placement, global_batch, place, total_images


def config(batch=64, base=512, train_cfg=None, **settings):
    scale = dict(auto_scale_lr=dict(base_batch_size=base)) if base else {}
    return Config(
        dict(
            train_dataloader=dict(batch_size=batch),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=1)),
            train_cfg=train_cfg or dict(by_epoch=True, max_epochs=300),
            **scale,
            **settings,
        )
    )


@pytest.mark.parametrize(
    ('settings', 'gpus', 'placement'),
    [
        (dict(), 8, (64, 1)),
        (dict(), 1, (64, 8)),
        (dict(), 4, (64, 2)),
        (dict(), 64, (8, 1)),
        (dict(batch=48, base=96 * 4), 3, (128, 1)),  # not a multiple of 48
        (dict(base=None), 1, (64, 1)),
        (dict(base=None), 2, (32, 1)),
        (dict(batch=2, base=16, train_cfg=dict(max_iters=10)), 1, (16, 1)),
        (dict(param_scheduler=[dict(by_epoch=False), dict()]), 1, (512, 1)),
        (dict(param_scheduler=dict(by_epoch=True)), 1, (64, 8)),
    ],
)
def test_the_recipes_batch_is_kept(settings, gpus, placement):
    cfg = config(**settings)
    found = place(cfg, gpus)
    assert found == placement
    assert found.batch_size * found.accumulate * gpus == global_batch(cfg)


def test_a_batch_that_does_not_divide():
    with pytest.raises(UserError, match='batch of 512 does not divide over 3 GPUs'):
        place(config(), 3)


def test_only_what_differs_is_an_option():
    cfg = config()
    assert Placement(64, 1).options(cfg) == {}
    assert Placement(8, 1).options(cfg) == {'train_dataloader.batch_size': 8}
    assert Placement(64, 8).options(cfg) == {'optim_wrapper.accumulative_counts': 8}
    accumulating = config(base=None)
    accumulating.optim_wrapper.accumulative_counts = 4
    assert global_batch(accumulating) == 256
    assert place(accumulating, 1) == (64, 4) and place(accumulating, 1).options(accumulating) == {}


def test_images_of_a_training():
    assert total_images(config(), 1000) == 300_000
    assert total_images(config(batch=2, base=16, train_cfg=dict(max_iters=10)), 1000) == 160


def test_what_a_training_costs():
    asked = []

    def throughput(batch):
        asked.append(batch)
        return {64: 1000.0, 8: 500.0}[batch]

    one, eight, sixty_four = estimate_training(config(), 1_200_000, throughput)
    assert (one.gpu_hours, one.hours) == (100, 100)
    assert (eight.gpu_hours, eight.hours, eight.batch_size) == (100, 12.5, 64)
    assert (sixty_four.gpu_hours, sixty_four.hours) == (200, 3.125)
    assert asked == [64, 8]  # once each


def test_what_cannot_be_placed_or_does_not_fit_is_said():
    import torch

    def throughput(batch):
        if batch > 2:
            raise torch.OutOfMemoryError
        return 10.0

    small = config(batch=2, base=16, train_cfg=dict(max_iters=36_000))
    one, eight, sixty_four = estimate_training(small, 0, throughput)
    assert (one.batch_size, one.hours) == (2, 16.0)  # 16 at once were too many
    assert eight.hours == 2.0
    assert sixty_four.hours is None and 'does not divide over 64' in sixty_four.problem

    def full(batch):
        raise torch.OutOfMemoryError

    (nothing,) = estimate_training(small, 0, full, [1])
    assert 'one image does not fit' in nothing.problem
