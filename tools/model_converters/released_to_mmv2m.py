"""Convert a checkpoint of the authors' released code: `python released_to_mmv2m.py SRC DST`.

The result loads into configs/v2m-t-released_8xb64_in1k.py (V2M-T) or
configs/v2m-s-released_8xb64_in1k.py (V2M-S).
"""

import argparse
import sys

import torch

from mmv2m.utils import convert_released_weights


def main() -> None:
    """Parse the command line, convert, save."""
    parser = argparse.ArgumentParser(description="Convert the authors' released checkpoint format")
    parser.add_argument('src', help='checkpoint of the released code')
    parser.add_argument('dst', help='where the converted checkpoint goes')
    args = parser.parse_args()
    try:
        # The released code pickles its command line beside the weights.
        with torch.serialization.safe_globals([argparse.Namespace]):
            checkpoint = torch.load(args.src, map_location='cpu', weights_only=True)
        state_dict = convert_released_weights(checkpoint.get('model', checkpoint))
    except (OSError, KeyError, ValueError) as error:
        sys.exit(f'error: {args.src}: {" ".join(str(error).split())}')
    torch.save(dict(state_dict=state_dict, meta=dict(converted_from=args.src)), args.dst)
    print(f'{len(state_dict)} tensors written to {args.dst}')


if __name__ == '__main__':
    main()
