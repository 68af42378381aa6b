# V2M-T with the exact recurrence (Eq. 6 to 8) instead of the simplified one (Eq. 9 to 12).
_base_ = '../v2m-t_8xb64_in1k.py'

model = dict(backbone=dict(recurrence='coupled'))
