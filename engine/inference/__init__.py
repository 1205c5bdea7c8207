"""From a model file to answers: what a file may hold, which file and precision is used, onnxruntime sessions.

onnxruntime 1.29 and newer sends usage data unless ORT_DISABLE_TELEMETRY is set when it is loaded; it writes an
identifier below the user's home, and a warning where there is none. az sets it before any of its modules can load it.
"""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
