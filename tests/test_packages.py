"""What stands beside mmv2m in an environment."""

import os
import subprocess
import sys

import pytest

CLASSIFIER = """
import mmv2m.models
from mmengine.registry import MODELS, DefaultScope
from mmpretrain.utils.dependency import WITH_MULTIMODAL
backbone = dict(type='V2M', arch=dict(embed_dims=8, depths=(1, 0, 0, 0)), out_indices=0)
head = dict(type='LinearClsHead', num_classes=2, in_channels=8)
with DefaultScope.overwrite_default_scope('mmpretrain'):
    model = MODELS.build(dict(type='ImageClassifier', backbone=backbone, head=head))
print(type(model).__name__, WITH_MULTIMODAL)
"""


@pytest.mark.parametrize('version', ['4.99.0', '5.1.0'])
def test_classification_beside_transformers(tmp_path, version):
    """mmpretrain imports what transformers 5 has not; here it is a package that does not import."""
    pytest.importorskip('pycocotools')
    (tmp_path / 'transformers').mkdir()
    (tmp_path / 'transformers' / '__init__.py').write_text('raise ImportError("imported")')
    info = tmp_path / f'transformers-{version}.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text(
        f'Metadata-Version: 2.1\nName: transformers\nVersion: {version}\n'
    )
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get('PYTHONPATH')])])
    done = subprocess.run(
        [sys.executable, '-c', CLASSIFIER],
        env=dict(os.environ, PYTHONPATH=path),
        capture_output=True,
        text=True,
    )
    if version < '5':  # left as it is: mmpretrain imports it
        assert done.stderr.splitlines()[-1] == 'ImportError: imported'
    else:
        assert done.stdout.splitlines()[-1:] == ['ImageClassifier False'], done.stderr
