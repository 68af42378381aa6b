"""A training through CUDA graphs is the training without them."""

import copy
import gc
import logging
import pickle
import weakref

import pytest
import torch
import torch.nn.functional as F
from small_models import ARCHS
from torch import nn
from torch.nn.utils import prune

from mmv2m.engine.cuda_graphs import GraphedForward
from mmv2m.engine.cuda_graphs.state import State, obstacle
from mmv2m.models import V2M, EfficientVMamba, Vim, VMamba

on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason='CUDA graphs need a GPU')
DEVICE = 'cuda'


@pytest.fixture(autouse=True)
def deterministic_convolutions(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, 'deterministic', True)


STEPS = 12
SMALL = dict(embed_dims=32, depths=(1, 1, 1, 1))
PYRAMID = dict(ARCHS['pyramid'], embed_dims=32)
BACKBONES = dict(
    v2m=lambda **s: V2M(dict(SMALL, state_dims=4), img_size=32, patch_size=4, **s),
    pyramid=lambda **s: V2M(PYRAMID, **s),
    vim=lambda **s: Vim(dict(SMALL, state_dims=4), img_size=32, patch_size=4, **s),
    vmamba=lambda **s: VMamba(SMALL, **s),
    efficient=lambda **s: EfficientVMamba(SMALL, **s),
)


def make_backbone(kind='pyramid', **settings):
    torch.manual_seed(0)
    return BACKBONES[kind](**settings)


class Training:
    """A backbone with a head, AdamW, and steps on made-up images."""

    def __init__(self, graphs, kind='pyramid', dtype=None, scale=False, **settings):
        backbone = make_backbone(kind, **settings)
        self.head = nn.Linear(backbone.out_channels[-1], 10).to(DEVICE)
        self.backbone = backbone.to(DEVICE).train()
        self.graphed = GraphedForward(self.backbone) if graphs else None
        if graphs:
            self.backbone.forward = self.graphed
        self.parameters = [*self.backbone.parameters(), *self.head.parameters()]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-3)
        self.dtype, self.scaler = dtype, torch.amp.GradScaler(enabled=scale)
        generator = torch.Generator().manual_seed(1)
        self.images = torch.randn(STEPS, 8, 3, 32, 32, generator=generator).to(DEVICE)
        self.labels = torch.arange(8, device=DEVICE)

    def loss(self, step, images=slice(None)):
        enabled = self.dtype is not None
        # Graphs cast a weight wherever it is used, which sums its gradients more exactly.
        autocast = torch.autocast(
            DEVICE, self.dtype or torch.bfloat16, enabled=enabled, cache_enabled=False
        )
        with autocast:
            logits = self.head(self.backbone(self.images[step, images])[-1])
            return F.cross_entropy(logits.float(), self.labels[images])

    def step(self, step, parts=(slice(None),)):
        self.optimizer.zero_grad()
        total = 0
        for part in parts:
            loss = self.loss(step, part)
            self.scaler.scale(loss / len(parts)).backward()
            total += loss.item()
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return total

    def run(self, **settings):
        return [self.step(i, **settings) for i in range(STEPS)]

    def weights(self):
        return [*self.parameters, *self.backbone.buffers()]


def compare(replays=STEPS - 4, run=Training.run, **settings):
    graphs, eager = (Training(use, **settings) for use in (True, False))
    losses = []
    for training in (graphs, eager):
        torch.manual_seed(2)
        losses.append(run(training))
    assert losses[0] == losses[1]
    assert graphs.graphed.replays >= replays, graphs.graphed._told
    for one, other in zip(graphs.weights(), eager.weights(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    return graphs


@on_a_gpu
@pytest.mark.parametrize('dtype', [None, torch.bfloat16])
@pytest.mark.parametrize('kind', BACKBONES)
def test_training_is_equal_to_the_bit(kind, dtype):
    compare(kind=kind, dtype=dtype)


@on_a_gpu
def test_drop_path():
    compare(dtype=torch.bfloat16, drop_path_rate=0.5)


@on_a_gpu
def test_float16_with_a_loss_scale():
    compare(dtype=torch.float16, scale=True)


@on_a_gpu
@pytest.mark.parametrize('drop_path_rate', [0.0, 0.5])
def test_recomputed_blocks(drop_path_rate):
    """With random numbers in a block PyTorch cannot recompute it in a graph, and says so."""
    graphs = compare(replays=0, with_cp=True, drop_path_rate=drop_path_rate)
    assert graphs.graphed.replays or graphs.graphed._told


@on_a_gpu
def test_frozen_stages():
    compare(frozen_stages=2)


@on_a_gpu
def test_output_that_is_not_used():
    """Its norm gets no gradient, and AdamW leaves it alone; a graph would give it zeros."""
    graphs = compare(
        run=lambda t: [t.step(i % STEPS) for i in range(60)], replays=0, out_indices=(2, 3)
    )
    assert graphs.graphed.replays == 0
    assert any('not used' in reason for reason in graphs.graphed._told)


@on_a_gpu
def test_gradient_accumulation():
    compare(run=lambda t: t.run(parts=(slice(4), slice(4, 8))), dtype=torch.bfloat16)


@on_a_gpu
def test_gradients_are_kept_where_they_are_held():
    training = Training(True)
    for i in range(5):
        training.step(i)
    held = [p.grad for p in training.parameters]
    before = [g.clone() for g in held]
    training.step(5)
    assert training.graphed.replays == 3
    assert all(torch.equal(g, b) for g, b in zip(held, before, strict=True))


@on_a_gpu
def test_outputs_are_kept_where_they_are_held():
    training = Training(True)
    for i in range(5):
        training.step(i)
    (held,) = training.backbone(training.images[0])
    before = held.clone()
    held.sum().backward()
    training.step(6)
    assert torch.equal(held, before)


@on_a_gpu
def test_evaluation_and_last_batch_between_steps():
    def run(training):
        losses = []
        for i in range(STEPS):
            losses.append(training.step(i))
            training.backbone.eval()
            with torch.no_grad():
                losses.append(training.loss(i).item())
            training.backbone.train()
            if i % 6 == 5:
                losses.append(training.step(i, (slice(3),)))
        return losses

    graphs = compare(run=run)
    assert graphs.graphed.attempts == 1


@on_a_gpu
def test_two_passes_before_a_backward_pass(caplog):
    def run(training):
        losses = []
        for i in range(STEPS):
            training.optimizer.zero_grad()
            loss = training.loss(i) + training.loss(i - 1)
            loss.backward()
            training.optimizer.step()
            losses.append(loss.item())
        return losses

    graphs = compare(run=run)
    assert graphs.graphed._told == {
        'a forward pass comes before the last one has been differentiated'
    }


@on_a_gpu
def test_late_second_backward_pass_is_refused():
    training = Training(True)
    for i in range(5):
        training.step(i)
    loss = training.loss(5)
    loss.backward(retain_graph=True)
    training.loss(6).backward()
    with pytest.raises(RuntimeError, match='overwritten'):
        loss.backward()


@on_a_gpu
def test_earlier_output_with_its_graph_alive():
    def run(training):
        alive = training.backbone(training.images[0])[-1].sum()
        losses = training.run()
        return [*losses, alive.item()]

    compare(run=run)


@on_a_gpu
def test_changes_take_effect():
    """A hook, a replaced module, other weights and settings that come after the capture."""

    def run(training):
        losses, backbone = [], training.backbone
        block = backbone.stages[1][1]

        def train():
            losses.extend(training.step(i) for i in range(6))

        train()
        state = {name: value * 1.01 for name, value in backbone.state_dict().items()}
        backbone.load_state_dict(state)
        train()
        handle = block.mixer.register_forward_hook(lambda module, args, out: out * 2)
        train()
        handle.remove()
        train()
        block.norm.weight.data = block.norm.weight.data * 3
        train()
        block.drop_path.drop_prob = 0.5
        train()
        backbone.requires_grad_(False)
        block.requires_grad_(True)
        train()
        return losses

    graphs = compare(run=run, replays=6 * 3)
    assert any('hook' in reason for reason in graphs.graphed._told)


@on_a_gpu
def test_what_cannot_be_captured_goes_on_eagerly():
    """A module that reads a number from the GPU, behind one that draws random numbers."""

    class Reads(nn.Module):
        def forward(self, x):
            x = F.dropout(x, 0.1)
            return x * (1 if x.sum().item() > 0 else 2)

    def run(training):
        norm = training.backbone.norm3
        norm.add_module('reads', Reads())
        plain = type(norm).forward
        norm.forward = lambda x: norm.reads(plain(norm, x))
        return training.run()

    graphs = compare(run=run, replays=0)
    assert graphs.graphed.replays == 0 and graphs.graphed.attempts == 1
    assert any('capturing fails' in reason for reason in graphs.graphed._told)


@on_a_gpu
def test_memory_is_freed():
    training = Training(True)
    training.run()
    capture = weakref.ref(training.graphed._capture)
    training.graphed.remove()
    assert 'forward' not in vars(training.backbone)
    gc.collect()
    assert capture() is None


def test_state_notices_changes():
    x = torch.zeros(1, 3, 32, 32)

    def changes(change, name='pyramid'):
        backbone = make_backbone(name)
        state = State(backbone, x)
        backbone(x)
        assert state.holds(x)
        change(backbone)
        return not state.holds(x)

    assert changes(lambda b: setattr(b.stages[0][0].drop_path, 'drop_prob', 0.3))
    assert changes(lambda b: setattr(b.stages[0][0], 'mixer', copy.deepcopy(b.stages[0][0].mixer)))
    assert changes(lambda b: b.stages[1].register_forward_hook(print))
    assert changes(lambda b: b.stages[1].register_full_backward_hook(print))
    assert changes(lambda b: prune.l1_unstructured(b.stages[0][0].mixer.out_proj, 'weight', 0.3))
    assert changes(lambda b: b.stages[1].eval())
    assert changes(lambda b: b.stages[1].requires_grad_(False))
    assert changes(lambda b: b.half())
    assert changes(lambda b: b.stages[1].__setattr__('forward', print))
    assert changes(lambda b: b.stages[1].register_buffer('new', x))
    assert changes(lambda b: b.stages.append(nn.Identity()))
    assert not changes(lambda b: b.load_state_dict(b.state_dict()))
    assert not State(make_backbone(), x).holds(x[..., :16])
    with pytest.MonkeyPatch.context() as patch:
        assert changes(lambda b: patch.setattr(nn.Linear, 'forward', lambda self, x: x))


def test_obstacles_are_named():
    x = torch.zeros(1, 3, 32, 32)
    backbone = make_backbone()
    assert obstacle(backbone, x) is None
    backbone.register_forward_hook(print)  # runs outside of the forward pass
    assert obstacle(backbone, x) is None
    backbone.stages[0].register_forward_hook(print)
    assert 'stages.0' in obstacle(backbone, x)
    backbone = make_backbone()
    backbone.norm3 = nn.SyncBatchNorm(4)
    assert 'norm3' in obstacle(backbone, x)
    assert 'nothing' in obstacle(make_backbone().requires_grad_(False), x)


def test_runs_eagerly_without_a_gpu(caplog):
    backbone, x = make_backbone(), torch.randn(2, 3, 32, 32)
    before = backbone(x)[0]
    backbone.forward = GraphedForward(backbone, patience=1)
    with caplog.at_level(logging.WARNING, 'mmv2m'):
        for _ in range(4):
            assert torch.equal(backbone(x)[0], before)
    assert backbone.forward.replays == 0 and 'CUDA graph' not in caplog.text


@pytest.mark.parametrize('copy_of', [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_have_graphs_of_their_own(copy_of):
    backbone, x = make_backbone(), torch.randn(2, 3, 32, 32)
    backbone.forward = GraphedForward(backbone)
    other = copy_of(backbone)
    assert other.forward.module is other
    with torch.no_grad():
        other.norm3.weight.zero_()
        assert not torch.equal(other(x)[0], backbone(x)[0])
