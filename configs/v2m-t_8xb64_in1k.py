# Table 1, V2M-T: 7 M parameters, 1.9 G FLOPs, 76.2% top-1.
# The authors' script (tiny.sh) differs from the paper's text: weight decay 0.1; no drop path.
_base_ = [
    '_base_/models/v2m-t.py',
    '_base_/datasets/imagenet_bs64_v2m_224.py',
    '_base_/schedules/imagenet_bs512_adamw_300e.py',
    '_base_/default_runtime.py',
]
