"""The protocol of `az analyze`: JSON lines in and out, requests by priority, searches that can be interrupted."""
