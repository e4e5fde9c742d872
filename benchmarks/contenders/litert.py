"""LiteRT with Keras's networks, converted by TensorFlow, on XNNPACK."""

import os
from collections.abc import Callable

import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from benchmarks.contenders import examples
from benchmarks.contenders.keras_tensorflow import create


def inference(network: str, batch: int, size: int) -> Callable:
    """The logits of one batch."""
    images = examples(batch, size)[0]
    content = tf.lite.TFLiteConverter.from_keras_model(create(network, size)).convert()
    interpreter = Interpreter(model_content=content, num_threads=os.cpu_count())
    (inputs,), (outputs,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.resize_tensor_input(inputs['index'], images.shape)
    interpreter.allocate_tensors()

    def run():
        interpreter.set_tensor(inputs['index'], images)
        interpreter.invoke()
        return interpreter.get_tensor(outputs['index'])

    return run
