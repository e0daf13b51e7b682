"""mosec with msgspec, one worker, as its documentation has it; the batch and its window come from the environment.

Configured for its best: one ONNX Runtime thread on the one core that it has, msgspec in place of the standard JSON.
"""

import os

import msgspec
import numpy as np
import onnxruntime as ort
from mosec import Runtime, Server, Worker

decode, encode = msgspec.json.Decoder().decode, msgspec.json.Encoder().encode


class Lstm(Worker):
    """Takes {"data": a window}, gives {"output": [probability]}."""

    def __init__(self):
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self.session = ort.InferenceSession(os.environ["LSTM_ONNX"], options, providers=["CPUExecutionProvider"])

    def deserialize(self, data):
        return decode(data)

    def serialize(self, data):
        return encode(data)

    def forward(self, data):
        if isinstance(data, list):
            (outputs,) = self.session.run(None, {"input": np.array([one["data"] for one in data], np.float32)})
            return [{"output": [output.tolist()]} for output in outputs]
        (output,) = self.session.run(None, {"input": np.array([data["data"]], np.float32)})
        return {"output": output.tolist()}


if __name__ == "__main__":
    server = Server()
    batch, window_ms = int(os.environ["BATCH_ROWS"]), int(os.environ["WINDOW_MS"])
    server.register_runtime({"/predict": [Runtime(Lstm, num=1, max_batch_size=batch, max_wait_time=window_ms)]})
    server.run()
