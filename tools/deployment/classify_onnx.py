"""Classify images with a file of export_onnx.py: `python classify_onnx.py MODEL IMAGE [IMAGE ...]`.

The script needs onnxruntime, NumPy and Pillow, and nothing else of this repository, so it can be
copied to where it is used. It resizes images to the model's size, and normalises them as the file's
metadata says. For each image, it prints the path, the likeliest class and the class's probability.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image


def main(argv: Sequence[str] | None = None) -> None:
    """Classify the images of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('model', help='an ONNX file of export_onnx.py')
    parser.add_argument(
        'images', nargs='+', metavar='image', help='an image file that Pillow can open'
    )
    args = parser.parse_args(argv)
    if not Path(args.model).is_file():
        sys.exit(f'{args.model} does not exist')
    try:
        session = onnxruntime.InferenceSession(args.model, providers=['CPUExecutionProvider'])
    except Exception as error:  # those of onnxruntime have no base of their own
        sys.exit(f'{args.model} cannot be read: {error}')
    about = session.get_modelmeta().custom_metadata_map
    outputs = [output.name for output in session.get_outputs()]
    if 'channels' not in about or outputs != ['logits']:
        sys.exit(f'{args.model} is no classifier of export_onnx.py: its outputs are {outputs}')
    height, width = session.get_inputs()[0].shape[2:]
    try:
        batch = np.stack([prepare(path, (width, height), about) for path in args.images])
    except OSError as error:  # Pillow's error is one, too, and names the file
        sys.exit(str(error))
    (logits,) = session.run(None, {'images': batch})
    likeliest = logits.argmax(1)
    names = json.loads(about.get('classes', 'null')) or range(logits.shape[1])
    for path, best, probability in zip(args.images, likeliest, softmax(logits).max(1), strict=True):
        print(f'{path}: {names[best]}, {probability:.1%}')


def prepare(path: str, size: tuple[int, int], about: dict[str, str]) -> np.ndarray:
    """Read an image file as the model takes it, (3, H, W) in float32.

    Args:
        path: The file.
        size: Width and height.
        about: The model's metadata: ``channels``, and the ``mean`` and ``std`` of each channel if
            the images are normalised.
    """
    pixels = np.asarray(Image.open(path).convert('RGB').resize(size), np.float32)
    if about['channels'] == 'BGR':
        pixels = pixels[..., ::-1]
    if 'mean' in about:
        pixels = (pixels - json.loads(about['mean'])) / json.loads(about['std'])
    return pixels.transpose(2, 0, 1).astype(np.float32)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Turn logits into probabilities, (B, classes)."""
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


if __name__ == '__main__':
    main()
