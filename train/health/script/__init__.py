"""An ordinary script under watch, without a step function: `python -m az.train.health script.py …`."""
