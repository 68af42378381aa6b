"""The schema of every operator of torch.library, as text.

Each operator has a backward operator, whose first argument is the gradient of the result. If an
operator returns a list, the result comes first, and tensors that the gradient needs follow. The
backward operator takes those as ``kept``. It returns the gradients of the tensors that are not
None. The last argument is the name of the backend, except for the convolution, which always is
PyTorch's. Directions and corners are text; see :mod:`.directions`. The parameters of all groups
stand one behind the other in one list.
"""

__all__ = ['SCHEMAS']

_SCAN = (
    'Tensor x, Tensor delta, Tensor A, Tensor? B, Tensor? C, Tensor? D, Tensor? z, '
    'Tensor? delta_bias, bool delta_softplus, str direction, str backend'
)
_COUPLED = (
    'Tensor x, Tensor delta, Tensor A, Tensor weight, Tensor B, Tensor C, Tensor? D, '
    'Tensor? delta_bias, bool delta_softplus, str corners, str backend'
)
_COUPLED_SSM = 'Tensor x, Tensor?[] parameters, str corners, str reduction, str backend'
_CONV = 'Tensor x, Tensor weight, Tensor? bias, str direction, str backend'
_CONVS = 'Tensor x, Tensor weight, Tensor? bias, str directions, str backend'
_SSM = (
    'Tensor x, Tensor? gate, Tensor? conv_weight, Tensor? conv_bias, Tensor x_proj, '
    'Tensor dt_proj, Tensor dt_bias, Tensor A, Tensor D, '
    'str directions, str projects, str reduction, bool log_A, str backend'
)
_CORNER_SSM = (
    'Tensor x, Tensor? gate, Tensor?[] parameters, '
    'str corners, str reduction, bool log_A, str backend'
)
_SS2D = (
    'Tensor x, Tensor in_weight, Tensor out_weight, Tensor? norm_weight, Tensor? norm_bias, '
    'Tensor?[] parameters, str corners, float eps, bool log_A, str backend'
)
_GATED_LINEAR = 'Tensor x, Tensor z, Tensor weight, str backend'
_MLP = 'Tensor x, Tensor?[] parameters, str backend'
_STEPS = 'int[] stride, int[] padding, int[] dilation, int groups'
_NORM = 'Tensor x, Tensor weight, Tensor? bias, Tensor? offset, float eps, str backend'

SCHEMAS: dict[str, str] = dict(
    directional_scan=f'({_SCAN}) -> Tensor',
    directional_scan_backward=f'(Tensor grad_y, {_SCAN}) -> Tensor[]',
    coupled_scan=f'({_COUPLED}) -> Tensor',
    coupled_scan_backward=f'(Tensor grad_y, {_COUPLED}) -> Tensor[]',
    coupled_ssm=f'({_COUPLED_SSM}) -> Tensor[]',
    coupled_ssm_backward=f'(Tensor grad_y, Tensor[] kept, {_COUPLED_SSM}) -> Tensor[]',
    directional_conv=f'({_CONV}) -> Tensor',
    directional_conv_backward=f'(Tensor grad_y, {_CONV}) -> Tensor[]',
    directional_convs=f'({_CONVS}) -> Tensor',
    directional_convs_backward=f'(Tensor grad_y, {_CONVS}) -> Tensor[]',
    directional_ssm=f'({_SSM}) -> Tensor',
    directional_ssm_backward=f'(Tensor grad_y, {_SSM}) -> Tensor[]',
    corner_ssm=f'({_CORNER_SSM}) -> Tensor[]',
    corner_ssm_backward=f'(Tensor grad_y, Tensor[] kept, {_CORNER_SSM}) -> Tensor[]',
    ss2d=f'({_SS2D}) -> Tensor[]',
    ss2d_inference=f'({_SS2D}) -> Tensor',
    ss2d_backward=f'(Tensor grad_y, Tensor[] kept, {_SS2D}) -> Tensor[]',
    gated_linear=f'({_GATED_LINEAR}) -> Tensor',
    gated_linear_backward=f'(Tensor grad_y, {_GATED_LINEAR}) -> Tensor[]',
    mlp=f'({_MLP}) -> Tensor[]',
    mlp_backward=f'(Tensor grad_y, Tensor[] kept, {_MLP}) -> Tensor[]',
    channel_norm=f'({_NORM}) -> Tensor',
    channel_norm_backward=f'(Tensor grad_y, {_NORM}) -> Tensor[]',
    convolution=f'(Tensor x, Tensor weight, Tensor? bias, {_STEPS}) -> Tensor',
    convolution_backward=f'(Tensor grad_y, Tensor x, Tensor weight, {_STEPS}, bool of_x, '
    'bool of_bias) -> Tensor[]',
    add_norm='(Tensor branch, Tensor residual, Tensor weight, Tensor? bias, Tensor? factor, '
    'float eps, str backend) -> (Tensor, Tensor)',
    add_norm_backward='(Tensor grad_normed, Tensor grad_total, Tensor total, Tensor weight, '
    'Tensor? bias, Tensor? factor, float eps, bool begins, str backend) -> Tensor[]',
)
