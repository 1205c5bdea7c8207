"""The folders of training runs, read without torch: listed, compared, followed, packed into one file, deleted."""
