"""Networks that give each superpixel its unary answer z, and the model that puts the field on top.

A network is a Keras model that takes a batch (see records.batches) and returns z, float32 [B, n], in log depth. A
function builds it from its settings in a recipe and its initial output (log metres). Its `encoder` is the part that can
start with weights from elsewhere.
"""
