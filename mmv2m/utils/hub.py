"""Models in folders and on the Hugging Face Hub, where huggingface_hub is installed."""

from typing import Any, NoReturn

__all__ = ['HubMixin']

try:
    from huggingface_hub import PyTorchModelHubMixin
except ImportError:

    class PyTorchModelHubMixin:  # type: ignore[no-redef]
        """Says what is missing."""

        _hub_mixin_config: dict | None = None

        def __init_subclass__(cls, **about: Any) -> None:
            super().__init_subclass__()

        def save_pretrained(self, *args: Any, **settings: Any) -> NoReturn:
            """Refuse."""
            _refuse('save_pretrained')

        def push_to_hub(self, *args: Any, **settings: Any) -> NoReturn:
            """Refuse."""
            _refuse('push_to_hub')

        @classmethod
        def from_pretrained(cls, *args: Any, **settings: Any) -> NoReturn:
            """Refuse."""
            _refuse('from_pretrained')


class HubMixin(
    PyTorchModelHubMixin,
    library_name='mmv2m',
    paper_url='https://arxiv.org/abs/2410.10382',
    license='apache-2.0',
    tags=['mmv2m', 'mamba', 'state-space-model'],
):
    """``save_pretrained``, ``from_pretrained`` and ``push_to_hub`` of huggingface_hub.

    A saved folder has the weights (``model.safetensors``) and the arguments that the model was
    built with (``config.json``). Every tensor has to fit when it is loaded, unless ``strict=False``
    is given; huggingface_hub's own default leaves what does not fit as it was.

    Raises:
        ImportError: When one of the three is called and huggingface_hub is not installed.
    """

    @classmethod
    def _from_pretrained(cls, *, strict: bool = True, **settings: Any) -> Any:
        return super()._from_pretrained(strict=strict, **settings)


def _refuse(method: str) -> NoReturn:
    raise ImportError(f'{method} needs huggingface_hub: pip install huggingface_hub safetensors')
