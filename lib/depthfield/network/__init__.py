"""Networks that give each superpixel its unary answer z, and the model that puts the field on top.

A network is a module with one function, `build(recipe) -> keras.Model`: it takes a batch (see records.batches) and
gives z, float32 [B, n], in log depth.
"""
