"""The recorder in two lines inside of Lightning, the Hugging Face Trainer and accelerate; each imported when used."""

from .accelerate import accelerate_recorder
from .lightning import lightning_callback
from .transformers import record_trainer

__all__ = ["accelerate_recorder", "lightning_callback", "record_trainer"]
