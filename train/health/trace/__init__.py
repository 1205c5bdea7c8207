"""What a step did and read: its operations, tensors, rows and values, and the one that was guilty."""
