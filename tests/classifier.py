"""A backbone with a linear head, its parameters named as in mmpretrain's ImageClassifier."""

from torch import nn


class Classifier(nn.Module):
    def __init__(self, backbone, classes):
        super().__init__()
        self.backbone = backbone
        self.head = nn.ModuleDict(dict(fc=nn.Linear(backbone.embed_dims, classes)))

    def forward(self, x):
        return self.head['fc'](self.backbone(x)[0])
