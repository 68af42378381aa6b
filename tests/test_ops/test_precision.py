import torch

from mmv2m.ops import directional_ssm, gated_linear, mlp
from mmv2m.ops.precision import without_autocast


def test_autocast_is_kept_out():
    a, b = torch.rand(2, 2), torch.rand(2, 2)
    with torch.autocast('cpu', torch.bfloat16):
        assert (a @ b).dtype == torch.bfloat16
        with without_autocast(a):
            assert (a @ b).dtype == torch.float32


def test_operators_compute_shapes_on_the_meta_device():
    def empty(*shape):
        return torch.empty(shape, device='meta')

    x = empty(2, 3, 5, 8)
    y = directional_ssm(
        x,
        gate=None,
        conv_weight=empty(8, 4),
        conv_bias=empty(8),
        x_proj=empty(6, 8),
        dt_proj=empty(8, 2),
        dt_bias=empty(8),
        A=empty(8, 4),
        D=empty(8),
        directions=('right', 'down'),
        projects='output',
        reduction='sum',
    )
    assert y.is_meta and y.shape == x.shape
    assert gated_linear(y, x, empty(7, 8)).shape == (2, 3, 5, 7)
    assert mlp(y, empty(4, 8), None, empty(7, 4), empty(7)).shape == (2, 3, 5, 7)
