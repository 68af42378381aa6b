"""The base class of all backbones: four stages, their outputs, freezing and checkpointing."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import wraps
from typing import Any, ClassVar

import torch
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule, ModuleList
from torch import Tensor, nn
from torch.jit._trace import is_tracing
from torch.nn.modules.batchnorm import _BatchNorm

from mmv2m.utils.hub import HubMixin
from mmv2m.utils.suggestions import unknown_setting

from ..layers import CrossToken, MeanToken, MiddleToken, Stage, Stream
from ..layers.checks import check_choices
from ..layers.compile_ahead import compile_ahead
from ..layers.door import may_stand_for
from ..layers.params import dtype_of
from ..layers.sizes import is_known
from ..layers.stage import STAGE
from .incoming import inflate_incoming, rename_incoming, require_fit
from .settings import OUT_TYPES, check_common, stage_indices
from .zoo import StagedArch

__all__ = ['LINEAR_INIT', 'PYRAMID_STRIDES', 'StagedBackbone', 'checks_settings', 'drop_path_rates']

LINEAR_INIT = dict(type='TruncNormal', layer='Linear', std=0.02)
"""Initialisation of linear layers by the authors of the baselines; biases start at zero."""

PYRAMID_STRIDES = (4, 8, 16, 32)
"""Pixels from one token to the next where the resolution halves between stages."""


def drop_path_rates(depths: Sequence[int], last: float) -> Iterator[float]:
    """Rates of stochastic depth of all blocks in order; they grow linearly from 0 to ``last``."""
    blocks = sum(depths)
    return (last * i / max(blocks - 1, 1) for i in range(blocks))


def checks_settings(init: Callable[..., None]) -> Callable[..., None]:
    """Make a backbone's constructor begin with :meth:`StagedBackbone.check_settings`."""
    signature = inspect.signature(init)

    @wraps(init)
    def checked(self: 'StagedBackbone', *args: Any, **settings: Any) -> None:
        try:
            self.check_names(settings)
            _, *given = signature.bind(self, *args, **settings).arguments.items()
            self.check_settings(**dict(given))
        except (TypeError, ValueError) as error:
            raise type(error)(f'{type(self).__name__}: {error}') from None
        init(self, *args, **settings)

    return checked


class StagedBackbone(BaseModule, HubMixin, ABC):
    """A stem, four stages of blocks on a channels-last map, and a norm behind each output.

    A subclass decorates its constructor with :func:`checks_settings`. The constructor calls
    ``super().__init__()``, sets the modules of the stem, sets :attr:`stages`, and calls
    :meth:`add_output_norms` and :meth:`freeze_stages`. :attr:`stages` holds ``stages_built``
    modules of class :class:`Stage`. A module that changes the resolution is the first one of the
    stage that has the new resolution. The subclass also implements :meth:`stem`, :meth:`embed`, and
    :meth:`check_values` for settings that only it has.

    Attributes:
        ARCH_ZOO: The sizes behind each name that ``arch`` may be.
        stages: The stages that are built.
        out_channels: Width of each output.
        out_features: ``'stream'`` if an output is made of the residual stream behind a stage,
            ``'mixer'`` if it is made of what the mixer of the stage's last block adds to it.
        widths: Width of each of the four stages, built or not.
        strides: Pixels from one token of each of the four stages to the next.

    Args:
        in_channels: Channels of the image.
        out_indices: Stages behind which there are outputs. Negative numbers count from the last
            stage.
        out_type: ``'cls_token' | 'featmap' | 'avg_featmap' | 'raw'``; see :meth:`format_output`.
        frozen_stages: -1 freezes nothing, 0 the stem, and k > 0 also the first k stages.
        norm_eval: Keep BatchNorm layers in eval mode.
        with_cp: Recompute each block in the backward pass.
        init_cfg: See :class:`mmengine.model.BaseModule`.
    """

    ARCH_ZOO: ClassVar[Mapping[str, StagedArch]]
    stages: ModuleList

    def __init__(
        self,
        in_channels: int,
        out_indices: int | Sequence[int],
        out_type: str,
        frozen_stages: int,
        norm_eval: bool,
        with_cp: bool,
        init_cfg: dict | list | None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.in_channels = in_channels
        self._out_indices = stage_indices(out_indices)
        self.out_type = out_type
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.with_cp = with_cp
        self.class_token: CrossToken | MeanToken | MiddleToken = MeanToken()
        self.out_features = 'stream'
        self._compiled_for: set[tuple] = set()
        self._register_load_state_dict_pre_hook(self._take_weights)

    @classmethod
    def arguments(cls) -> Mapping[str, inspect.Parameter]:
        """The arguments of the class, by name."""
        # inspect.signature(cls) would be wrong before Python 3.11.4: where a class inherits its
        # constructor, it takes the one of huggingface_hub's mixin, because that has a __new__.
        _, *given = inspect.signature(cls.__init__).parameters.items()
        return dict(given)

    @classmethod
    def check_settings(cls, **settings: Any) -> None:
        """Check a config's settings without building anything.

        Args:
            **settings: Arguments of the class.

        Raises:
            ValueError: If a value is impossible, alone or with the others. The message says what is
                possible.
            TypeError: If there is no such setting.
        """
        cls.check_names(settings)
        parameters = cls.arguments()
        values = {name: settings.get(name, p.default) for name, p in parameters.items()}
        check_common(values)
        cls.check_values(values)

    @classmethod
    def check_names(cls, settings: Iterable[str]) -> None:
        """Check that all names are arguments of the class.

        Raises:
            TypeError: If a name is none. The message says which argument may be meant.
        """
        parameters = cls.arguments()
        for name in settings:
            if name not in parameters:
                raise TypeError(unknown_setting(name, parameters))

    @classmethod
    @abstractmethod
    def check_values(cls, values: dict[str, Any]) -> None:
        """Check the settings that only this class has, given all of them by name.

        Raises:
            ValueError: If a value is impossible. The message says what is possible.
            TypeError: If a value has an impossible type.
        """

    @abstractmethod
    def stem(self) -> Iterator[nn.Module]:
        """The modules in front of the first stage."""

    @abstractmethod
    def embed(self, x: Tensor) -> Tensor:
        """Turn images, (B, in_channels, H, W), into the first stage's map, (B, h, w, D)."""

    @property
    def with_cp(self) -> bool:
        """Whether each block is recomputed in the backward pass. Setting it sets all stages."""
        return self._with_cp

    @with_cp.setter
    def with_cp(self, recompute: bool) -> None:
        self._with_cp = recompute
        for stage in self._modules.get('stages') or ():
            if isinstance(stage, Stage):
                stage.with_cp = recompute

    @property
    def out_indices(self) -> tuple[int, ...]:
        """The stages behind which there are outputs; chosen when the model is built."""
        return self._out_indices

    @out_indices.setter
    def out_indices(self, stages: object) -> None:
        # Other stages have no norm behind them, and stages behind the last output do not exist.
        raise AttributeError(
            f'out_indices are {self._out_indices} since the {type(self).__name__} was built: build '
            f'another one with out_indices={stages!r}, and load the weights into it'
        )

    @property
    def stages_built(self) -> int:
        """Number of stages that exist; stages behind the last output would get no gradients."""
        return max(self.out_indices) + 1

    def plain_stages(
        self, depths: Sequence[int], drop_path_rate: float, block: Callable[[float], nn.Module]
    ) -> ModuleList:
        """Build stages that consist of blocks of one kind, up to the last output.

        Args:
            depths: Blocks in each of the four stages.
            drop_path_rate: Rate of stochastic depth of the last block; rates grow linearly from 0.
            block: Builds the next block, given its rate of stochastic depth.
        """
        rates = drop_path_rates(depths, drop_path_rate)
        return ModuleList(
            Stage(*(block(next(rates)) for _ in range(depth)), with_cp=self.with_cp)
            for depth in depths[: self.stages_built]
        )

    def add_output_norms(
        self, norm_cfg: dict | None, widths: Sequence[int], strides: Sequence[int]
    ) -> None:
        """Put a norm, if any, behind every output.

        Args:
            norm_cfg: The norm; None for none.
            widths: Width of each of the four stages.
            strides: Pixels from one token of each of the four stages to the next.
        """
        self.widths, self.strides = tuple(widths), tuple(strides)
        self.out_channels = tuple(widths[i] for i in self.out_indices)
        if norm_cfg is None:
            return
        for i in self.out_indices:
            self.add_module(f'norm{i}', build_norm_layer(norm_cfg, widths[i])[1])

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute features.

        Args:
            x: Images, (B, in_channels, H, W), normalised.

        Returns:
            One tensor for each of ``out_indices``, in ascending order, of the shape that
            ``out_type`` names.

        Raises:
            ValueError: If ``x`` is no batch of images with ``in_channels`` channels.
            TypeError: If ``x`` is no floating-point tensor.
        """
        return tuple(map(self.format_output, self.normed_maps(x)))

    def normed_maps(self, x: Tensor) -> list[Tensor]:
        """The maps behind :meth:`forward`'s outputs, class tokens included, as (B, H, W, D)."""
        self.check_images(x)
        self._compile_ahead(x)
        stream = Stream(self.embed(x))
        maps = []
        for i, stage in enumerate(self.stages):
            args, branch = self.stage_arguments(), None
            if i in self.out_indices and self.out_features == 'mixer':
                total, branch = stage(stream.sum(), *args, with_branch=True)
                stream = Stream(total)
            elif isinstance(stage, Stage) and may_stand_for(self, stream.total, ((stage, STAGE),)):
                stream = stage.advance(stream, *args)
            else:  # something watches or changes the stage, so it is called with the map
                stream = Stream(stage(stream.sum(), *args))
            if i in self.out_indices:
                maps.append(self.normed_output(i, stream.sum() if branch is None else branch))
        return maps

    def _compile_ahead(self, x: Tensor) -> None:
        """Compile the kernels of all stages when a GPU gets the first images of some dtype."""
        if torch.compiler.is_compiling() or type(x) is not Tensor or not x.is_cuda:
            return
        dtype = torch.get_autocast_dtype('cuda') if torch.is_autocast_enabled('cuda') else x.dtype
        kind = (x.device, dtype, torch.is_grad_enabled(), self.training)
        if kind not in self._compiled_for and not torch.cuda.is_current_stream_capturing():
            self._compiled_for.add(kind)
            compile_ahead(self.stages, self.widths, x.device, dtype, self.stage_arguments())

    def check_images(self, x: Tensor) -> None:
        """Check that ``x`` is a batch of images with ``in_channels`` channels.

        Raises:
            ValueError: If ``x`` has another shape, or its images have no pixels.
            TypeError: If ``x`` is no tensor, or not floating point; images are integers until they
                are normalised.
            RuntimeError: If :func:`torch.jit.trace` runs, which fixes sizes without a word.
        """
        if is_tracing():
            raise RuntimeError(
                f'a traced {type(self).__name__} would be wrong for images of other sizes: use '
                'torch.export.export or tools/deployment/export_onnx.py in the place of '
                'torch.jit.trace, and tools/analysis_tools/get_flops.py to count FLOPs'
            )
        if not isinstance(x, Tensor):
            raise TypeError(
                f'{type(self).__name__} takes a batch of images as one tensor, but got a '
                f'{type(x).__name__}; torch.stack makes one of images of one size'
            )
        shaped = x.dim() == 4 and x.shape[1] == self.in_channels
        if not shaped or is_known(x.shape[2] * x.shape[3] == 0):
            raise ValueError(
                f'{type(self).__name__} takes images as (B, {self.in_channels}, H, W), but got '
                f'{tuple(x.shape)}; see in_channels'
            )
        if not x.is_floating_point():
            raise TypeError(
                f'{type(self).__name__} takes normalised images in floating point, but got '
                f'{x.dtype}'
            )

    def stage_arguments(self) -> tuple[nn.Module, ...]:
        """Further arguments with which every stage is called, besides the map."""
        return ()

    def normed_output(self, i: int, x: Tensor) -> Tensor:
        """Normalise the map of stage ``i`` for its output.

        Args:
            i: The stage, counted from 0.
            x: Its map, (B, H, W, D).

        Returns:
            (B, H, W, D), or ``x`` itself if there is no norm behind this output.
        """
        norm = getattr(self, f'norm{i}', None)
        if norm is None:
            return x
        # The map may have a wider dtype than the parameters, with which later modules agree.
        return norm(x.to(dtype_of(norm, self, default=x.dtype)))

    def format_output(self, x: Tensor) -> Tensor:
        """Bring a normalised map into the form that ``out_type`` names.

        Args:
            x: (B, H, W, D), class tokens included.

        Returns:
            For ``'cls_token'``, the class token or the mean, (B, D). For ``'featmap'``, the
            patches, (B, D, H, W). For ``'avg_featmap'``, the mean of the patches, (B, D). For
            ``'raw'``, all tokens row by row, class tokens included, (B, L, D).
        """
        if self.out_type == 'raw':
            return x.flatten(1, 2)
        if self.out_type == 'cls_token':
            return self.class_token.read(x)
        check_choices(out_type=(self.out_type, OUT_TYPES))  # it may have been set since
        x = self.class_token.strip(x)
        if self.out_type == 'avg_featmap':
            return x.mean((1, 2))
        # Convolutions pass on the strides of a permuted map, and mmcv's RoIAlign ignores strides.
        return x.permute(0, 3, 1, 2).contiguous()

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Tell in which layer a parameter is, for layer-wise decay of the learning rate.

        Layer 0 is the stem. Each block of the stages is a layer, and so is each change of
        resolution. The last layer holds the norms behind the outputs and all parameters outside
        this backbone. Optimizer constructors of mmpretrain and of this project call this method.

        Args:
            param_name: The parameter's name in the whole model.
            prefix: This backbone's place in it, such as ``'backbone.'``.

        Returns:
            The number of the layer, and the count of layers.
        """
        before = [0]
        for stage in self.stages:
            before.append(before[-1] + len(stage))
        layers = before[-1] + 2
        name = param_name.removeprefix(prefix)
        if not param_name.startswith(prefix) or name.startswith('norm'):
            return layers - 1, layers
        if name.startswith('stages.'):
            _, stage, block, *_ = name.split('.')
            return before[int(stage)] + int(block) + 1, layers
        return 0, layers

    def train(self, mode: bool = True) -> 'StagedBackbone':
        """Switch between training and evaluation; what is frozen stays as it is."""
        super().train(mode)
        self.freeze_stages()
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def freeze_stages(self) -> None:
        """Freeze what ``frozen_stages`` names; call it at the end of ``__init__``."""
        if self.frozen_stages < 0:
            return
        frozen = list(self.stem())
        for i in range(min(self.frozen_stages, len(self.stages))):
            frozen.append(self.stages[i])
            if i in self.out_indices and hasattr(self, f'norm{i}'):
                frozen.append(getattr(self, f'norm{i}'))
        for module in frozen:
            module.eval()
            module.requires_grad_(False)

    def adapt_weights(
        self,
        state_dict: dict[str, Any],
        prefix: str = '',
        strict: bool = True,
        logger: Any = 'current',
    ) -> None:
        """Rename weights to this backbone's names, in place, and refuse weights of something else.

        The names of official code and of whole classifiers are known. Whenever weights are loaded,
        they are renamed, and weights for images of three channels are fitted to ``in_channels``.
        Weights are refused only when mmengine loads them, because mmengine itself would only warn.

        Args:
            state_dict: The weights. It may hold weights of other parts of a model too.
            prefix: This backbone's place in the model, such as ``'backbone.'``.
            strict: Refuse weights that leave more than a tenth of the backbone's tensors unfilled.
            logger: Where changes are logged, as for mmengine's ``print_log``.

        Raises:
            RuntimeError: If weights are refused. The message says which prefix or which backbone
                would fit, if there is one.
            ValueError: If official weights cannot be converted.
        """
        rename_incoming(state_dict, prefix, self.state_dict(), logger)
        inflate_incoming(self, state_dict, prefix, logger)
        if strict:
            require_fit(self, state_dict, prefix)

    def _take_weights(self, state_dict: dict, prefix: str, *args: object) -> None:
        # Nothing is refused here, because PyTorch does not tell its hooks whether loading is
        # strict.
        self.adapt_weights(state_dict, prefix, strict=False)
        # A dense backbone that loads a classifier's weights has no class tokens to fill.
        own = self.class_token.state_dict()
        for key in [k for k in state_dict if k.startswith(f'{prefix}class_token.')]:
            if key.removeprefix(f'{prefix}class_token.') not in own:
                del state_dict[key]
