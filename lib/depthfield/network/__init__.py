"""Networks that give each superpixel its unary answer z, and the model that puts the field on top.

A network is a Keras model that takes a batch (see records.batches) and gives z, float32 [B, n], in log depth. It is
made by a function of its settings in a recipe and of its first answer (log metres); its `encoder` is the part that
weights from elsewhere may replace.
"""
