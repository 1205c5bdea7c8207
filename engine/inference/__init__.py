"""From a model file to answers: what a file may hold, which file and precision is used, onnxruntime sessions."""
