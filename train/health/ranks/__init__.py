"""Several ranks of torch.distributed: they undo a step together, and tell which of them met the fault."""
