# V2M-S* with the exact recurrence (Eq. 6 to 8) instead of the simplified one (Eq. 9 to 12).
_base_ = '../v2m-s-star_8xb64_in1k.py'

model = dict(backbone=dict(recurrence='coupled'))
