"""Folders and the Hugging Face Hub, without a network."""

import json
import re
import subprocess
import sys

import pytest
import torch

hub = pytest.importorskip('huggingface_hub')
timm = pytest.importorskip('timm')

from mmv2m.models import V2M, LocalVim, Vim, VMamba  # noqa: E402
from mmv2m.timm import Classifier, FeatureMaps  # noqa: E402

ARCH = dict(embed_dims=8, depths=(1, 1, 1, 1), state_dims=1)


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)


def test_backbone(tmp_path):
    model = V2M(ARCH, img_size=(16, 32), corners=('UL', 'LR')).eval()
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / 'config.json').read_text())
    assert config['img_size'] == [16, 32] and config['corners'] == ['UL', 'LR']
    assert 'library_name: mmv2m' in (tmp_path / 'README.md').read_text()
    loaded, x = V2M.from_pretrained(tmp_path), torch.rand(1, 3, 16, 32)
    assert not loaded.training
    assert torch.equal(loaded(x)[0], model(x)[0])
    four = V2M.from_pretrained(tmp_path, in_channels=4)
    assert four.patch_embed.projection.weight.shape[1] == 4


def test_what_does_not_fit_is_an_error(tmp_path):
    VMamba(ARCH).save_pretrained(tmp_path)
    with pytest.raises(RuntimeError, match='norm0.weight'):
        VMamba.from_pretrained(tmp_path, out_indices=(0, 3), out_type='featmap')
    dense = VMamba.from_pretrained(tmp_path, out_indices=(0, 3), out_type='featmap', strict=False)
    assert len(dense(torch.rand(1, 3, 32, 32))) == 2


@pytest.mark.parametrize(
    ('saved', 'asked', 'settings'),
    [
        (V2M, Vim, dict(img_size=16)),
        (Vim, V2M, dict(img_size=16)),
        (V2M, Classifier, dict(img_size=16)),
        (VMamba, LocalVim, {}),
    ],
)
def test_folders_of_another_model(tmp_path, saved, asked, settings):
    saved(ARCH, **settings).save_pretrained(tmp_path)
    name = saved.__name__
    says = f'{tmp_path} holds the weights of another model: a {name} was saved, which {name}.from'
    with pytest.raises(ValueError, match=re.escape(says)):
        asked.from_pretrained(tmp_path)


def test_classes_of_ones_own(tmp_path):
    class Mine(V2M):
        pass

    V2M(ARCH, img_size=16).save_pretrained(tmp_path / 'stock')
    Mine.from_pretrained(tmp_path / 'stock').save_pretrained(tmp_path / 'mine')
    assert type(V2M.from_pretrained(tmp_path / 'mine')) is V2M


def test_classifier_with_another_head(tmp_path):
    model = timm.create_model('v2m_tiny', arch=ARCH, img_size=32, drop_path_rate=0.1).eval()
    model.reset_classifier(3, 'avg')
    model.save_pretrained(tmp_path)
    loaded, x = Classifier.from_pretrained(tmp_path), torch.rand(1, 3, 32, 32)
    assert loaded.num_classes == 3 and torch.equal(loaded(x), model(x))


def test_feature_maps(tmp_path):
    model = timm.create_model(
        'vmamba_tiny', arch=ARCH, features_only=True, out_indices=(1, 2), in_chans=1
    ).eval()
    model.save_pretrained(tmp_path)
    loaded, x = FeatureMaps.from_pretrained(tmp_path), torch.rand(1, 1, 32, 32)
    assert all(torch.equal(a, b) for a, b in zip(loaded(x), model(x), strict=True))


def test_timms_own_folders(tmp_path):
    model = timm.create_model('vim_tiny', arch=ARCH, img_size=32, num_classes=3).eval()
    timm.models.save_for_hf(model, str(tmp_path), safe_serialization=True)
    loaded = timm.create_model(f'local-dir:{tmp_path}', pretrained=True).eval()
    x = torch.rand(1, 3, 32, 32)
    assert torch.equal(loaded(x), model(x))


def test_push_to_hub(monkeypatch):
    pushed = {}

    def upload(self, *, folder_path, repo_id, **_):
        pushed.update(repo=repo_id, files=sorted(p.name for p in folder_path.iterdir()))
        return 'url'

    monkeypatch.setattr(hub.HfApi, 'upload_folder', upload)
    monkeypatch.setattr(
        hub.HfApi, 'create_repo', lambda self, repo_id, **_: hub.RepoUrl(f'https://hf.co/{repo_id}')
    )
    assert V2M(ARCH, img_size=16).push_to_hub('me/v2m') == 'url'
    assert pushed == dict(repo='me/v2m', files=['README.md', 'config.json', 'model.safetensors'])


def test_without_huggingface_hub():
    code = """
import sys; sys.modules['huggingface_hub'] = None
from mmv2m.models import V2M
model = V2M(dict(embed_dims=8, depths=(1, 0, 0, 0)), img_size=16, out_indices=0)
for call in (model.save_pretrained, V2M.from_pretrained, model.push_to_hub):
    try: call('x')
    except ImportError as error: print(error)
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    lines = [line for line in done.stdout.splitlines() if 'huggingface_hub' in line]
    assert len(lines) == 3
    assert (
        lines[1] == 'from_pretrained needs huggingface_hub: pip install huggingface_hub safetensors'
    )
