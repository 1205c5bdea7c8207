"""`az hub`, `az nboard` and `az gtp`."""
